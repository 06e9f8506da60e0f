// Random kills under `pyro run` and `pyro env pull`, by a printed seed. PYRO_RUN_KILLS and PYRO_PULL_KILLS say how many;
// `make soak` asks for more than the usual few.
import { test } from "node:test";
import { countFrom, Seeded } from "../seed.ts";
import { PullGround } from "./pull-kills.ts";
import { homeWithCopies, KillingGround, randomKill, VICTIMS } from "./random-kills.ts";
import { untilNothingRuns } from "./remains.ts";

const RUN_KILLS = countFrom("PYRO_RUN_KILLS", 10);
const PULL_KILLS = countFrom("PYRO_PULL_KILLS", 4);

test(`${RUN_KILLS} kills under run: the next call works, nothing is left, nothing ran twice`, {
  timeout: 180_000 + RUN_KILLS * 60_000,
}, async (context) => {
  const random = Seeded.fromEnvironment();
  context.diagnostic(`PYRO_SEED=${random.seed}`);
  const homes = [await homeWithCopies({ poolSize: 0 }), await homeWithCopies({ poolSize: 2 })] as const;
  {
    await using _without = homes[0];
    await using _with = homes[1];
    const grounds = [await KillingGround.open(homes[0]), await KillingGround.open(homes[1])] as const;
    for (const { summary } of grounds) context.diagnostic(summary);
    // Clients first: their runs live on for a minute, in which the others are killed.
    const victims = Array.from({ length: RUN_KILLS }, (_, index) => VICTIMS[(index >> 1) % VICTIMS.length] ?? "daemon");
    victims.sort((a, b) => Number(b === "client") - Number(a === "client"));
    for (const [index, victim] of victims.entries()) {
      const kill = randomKill(random, victim);
      const ground = grounds[index % 2 === 0 ? 0 : 1];
      try {
        context.diagnostic(`${index + 1}: ${await ground.kill(kill)}`);
      } catch (thrown) {
        const where = `kill ${index + 1} (${ground.summary}) ${JSON.stringify(kill)}`;
        throw new Error(`PYRO_SEED=${random.seed}, ${where}`, { cause: thrown });
      }
    }
    for (const ground of grounds) await ground.settle();
  }
  for (const home of homes) await untilNothingRuns(home);
});

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
