// Lists of hosts that may be reached, compared: whether one lets through no more than another.

/** True when everything that `inner` lets through is let through by `outer`. An empty list is every public host. */
export function isWithin(inner: readonly string[], outer: readonly string[]): boolean {
  if (outer.length === 0) return true;
  return inner.length > 0 && inner.every((host) => outer.some((known) => covers(known, host)));
}

function covers(known: string, host: string): boolean {
  const [wide, narrow] = [plain(known), plain(host)];
  if (wide === narrow) return true;
  if (!wide.startsWith("*.")) return false;
  // "*.example.org" is what ends with ".example.org", "*.a.example.org" too.
  return !narrow.includes(":") && narrow.replace(/^\*\./, "").endsWith(wide.slice(1));
}

function plain(host: string): string {
  return host.toLowerCase().replace(/\.$/, "");
}
