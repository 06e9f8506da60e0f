// The environments that pyro knows how to build. Pure data.

export interface Recipe {
  readonly environment: string;
  /** Codename of the Debian release that its package sources must have. */
  readonly codename: string;
  readonly variant: "minbase";
  readonly packages: readonly string[];
  /** ENV of the image: what every process in it gets. */
  readonly env: Readonly<Record<string, string>>;
}

const DEBIAN_ENV = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" } as const;

export const RECIPES: readonly Recipe[] = [
  {
    environment: "debian:12",
    codename: "bookworm",
    variant: "minbase",
    packages: ["git", "ca-certificates", "curl", "procps", "python3"],
    env: DEBIAN_ENV,
  },
  {
    // What Debian's own container image has, and certificates.
    environment: "debian:12-base",
    codename: "bookworm",
    variant: "minbase",
    packages: ["ca-certificates"],
    env: DEBIAN_ENV,
  },
  {
    environment: "debian:12-build",
    codename: "bookworm",
    variant: "minbase",
    packages: [
      "git",
      "ca-certificates",
      "curl",
      "procps",
      "build-essential",
      "cmake",
      "pkg-config",
      "python3",
      "python3-venv",
      "python3-pip",
      "patch",
      "unzip",
      "xz-utils",
    ],
    env: DEBIAN_ENV,
  },
];

export function recipeFor(environment: string): Recipe | undefined {
  return RECIPES.find((recipe) => recipe.environment === environment);
}

/** Names of recipes that `environment` may have been meant to be, nearest first. */
export function nearNames(environment: string): string[] {
  const wanted = environment.toLowerCase();
  return RECIPES.map((recipe) => ({ name: recipe.environment, distance: editDistance(wanted, recipe.environment) }))
    .filter(({ name, distance }) => distance <= 3 || wanted.split(":")[0] === name.split(":")[0])
    .sort((a, b) => a.distance - b.distance)
    .map(({ name }) => name);
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
