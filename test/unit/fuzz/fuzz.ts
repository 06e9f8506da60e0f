// What the fuzz tests share: rounds with a printed seed for as long as they may take, and bytes that are nearly right.
import { type TestContext, test } from "node:test";
import { Seeded } from "../../seed.ts";

/** How long each target is fuzzed, seconds; `make soak` asks for more. */
const SECONDS = Number(process.env.PYRO_FUZZ_SECONDS || 0.5);

/**
 * A test that calls `round` over and over. Each round has a seed of its own: the one that fails is named, and
 * PYRO_SEED begins with it.
 */
export function fuzz(name: string, round: (random: Seeded) => void | Promise<void>): void {
  test(`fuzz: ${name}`, { timeout: SECONDS * 1000 + 60_000 }, async (context: TestContext) => {
    const deadline = performance.now() + SECONDS * 1000;
    const first = Seeded.fromEnvironment().seed;
    let rounds = 0;
    do {
      const seed = (first + rounds) >>> 0;
      try {
        await round(new Seeded(seed));
      } catch (thrown) {
        throw new Error(`PYRO_SEED=${seed}`, { cause: thrown });
      }
      rounds++;
    } while (performance.now() < deadline);
    context.diagnostic(`PYRO_SEED=${first}, ${rounds} rounds`);
  });
}

/** The bytes with a few changes: some flipped, cut out, repeated, or strange ones put between. */
export function mutated(random: Seeded, bytes: Buffer): Buffer {
  let result = Buffer.from(bytes);
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    const at = random.below(result.length + 1);
    const length = random.below(Math.min(64, result.length - at + 1));
    switch (random.below(5)) {
      case 0:
        if (at < result.length) result[at] = random.below(256);
        break;
      case 1:
        result = Buffer.concat([result.subarray(0, at), result.subarray(at + length)]);
        break;
      case 2:
        result = Buffer.concat([result.subarray(0, at + length), result.subarray(at)]);
        break;
      case 3:
        result = Buffer.concat([result.subarray(0, at), random.bytes(random.below(32)), result.subarray(at)]);
        break;
      default:
        result = Buffer.concat([
          result.subarray(0, at),
          Buffer.alloc(random.below(300), random.pick([0, 0xff])),
          result.subarray(at),
        ]);
    }
  }
  return result;
}

/** The bytes in pieces of random sizes. */
export function* pieces(random: Seeded, bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const size = random.chance(0.3) ? 1 + random.below(9) : 1 + random.below(5000);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}
