// Random kills while a workspace is snapshot, reset, stopped, started or cloned, or exported from while it is stopped, by
// a printed seed. PYRO_LIFECYCLE_KILLS says how many; `make soak` asks for more than the usual few.
import { test } from "node:test";
import { countFrom, Seeded } from "../seed.ts";
import { LifecycleGround, OPERATIONS, randomKill } from "./lifecycle-kills.ts";
import { homeWithCopies } from "./random-kills.ts";
import { untilNothingRuns } from "./remains.ts";

const KILLS = countFrom("PYRO_LIFECYCLE_KILLS", 10);

test(`${KILLS} kills under resets, snapshots, stops, starts, clones and exports: all is old or new, and nothing is left`, {
  timeout: 240_000 + KILLS * 90_000,
}, async (context) => {
  const random = Seeded.fromEnvironment();
  context.diagnostic(`PYRO_SEED=${random.seed}`);
  const home = await homeWithCopies({ poolSize: 0 });
  {
    await using _home = home;
    const ground = await LifecycleGround.open(home);
    context.diagnostic(ground.summary);
    for (let index = 0; index < KILLS; index++) {
      const kill = randomKill(random, OPERATIONS[index % OPERATIONS.length] ?? "reset");
      try {
        context.diagnostic(`${index + 1}: ${await ground.kill(kill)}`);
      } catch (thrown) {
        throw new Error(`PYRO_SEED=${random.seed}, kill ${index + 1} ${JSON.stringify(kill)}`, { cause: thrown });
      }
    }
    await ground.finish();
  }
  await untilNothingRuns(home);
});
