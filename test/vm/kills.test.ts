// Random kills under `pyro run` and `pyro env pull`, by a printed seed. PYRO_RUN_KILLS and PYRO_PULL_KILLS say how many;
// `make soak` asks for more than the usual few.
import { test } from "node:test";
import { countFrom, Seeded } from "../seed.ts";
import { PullGround } from "./pull-kills.ts";
import { homeWithCopies, KillingGround, randomKill, VICTIMS } from "./random-kills.ts";
import { untilNothingRuns } from "./remains.ts";

const RUN_KILLS = countFrom("PYRO_RUN_KILLS", 10);
const PULL_KILLS = countFrom("PYRO_PULL_KILLS", 4);

for (const poolSize of [0, 2]) {
  const kills = Math.round(RUN_KILLS / 2);
  test(`${kills} kills under run, pool of ${poolSize}: the next call works, nothing is left, nothing ran twice`, {
    timeout: 120_000 + kills * 60_000,
  }, async (context) => {
    const random = Seeded.fromEnvironment();
    context.diagnostic(`PYRO_SEED=${random.seed}`);
    const home = await homeWithCopies({ poolSize });
    {
      await using _stopped = home;
      const ground = await KillingGround.open(home);
      context.diagnostic(ground.summary);
      // Clients first: their runs live on for a minute, in which the others are killed.
      const victims = Array.from({ length: kills }, (_, index) => VICTIMS[index % VICTIMS.length] ?? "daemon");
      victims.sort((a, b) => Number(b === "client") - Number(a === "client"));
      for (const [index, victim] of victims.entries()) {
        const kill = randomKill(random, victim);
        try {
          context.diagnostic(`${index + 1}: ${await ground.kill(kill)}`);
        } catch (thrown) {
          throw new Error(`PYRO_SEED=${random.seed}, kill ${index + 1} ${JSON.stringify(kill)}`, { cause: thrown });
        }
      }
      await ground.settle();
    }
    await untilNothingRuns(home);
  });
}

test(`${PULL_KILLS} kills under env pull: the next call works, nothing half-made is left`, {
  timeout: 60_000 + PULL_KILLS * 120_000,
}, async (context) => {
  const random = Seeded.fromEnvironment();
  context.diagnostic(`PYRO_SEED=${random.seed}`);
  const ground = new PullGround(random);
  for (let index = 0; index < PULL_KILLS; index++) {
    try {
      context.diagnostic(`${index + 1}: ${await ground.kill()}`);
    } catch (thrown) {
      throw new Error(`PYRO_SEED=${random.seed}, kill ${index + 1}`, { cause: thrown });
    }
  }
});
