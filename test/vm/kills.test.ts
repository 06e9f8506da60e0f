// Random kills under `pyro run` and `pyro env pull`, by a printed seed. PYRO_RUN_KILLS and PYRO_PULL_KILLS say how many;
// `make soak` asks for more than the usual few.
import { test } from "node:test";
import { countFrom, Seeded } from "../seed.ts";
import { homeWithCopies, KillingGround, randomKill, VICTIMS } from "./random-kills.ts";
import { untilNothingRuns } from "./remains.ts";

const RUN_KILLS = countFrom("PYRO_RUN_KILLS", 10);

for (const [pool, env, share] of [
  ["without a pool", { PYRO_POOL_SIZE: "0" }, 0.5],
  ["with the usual pool", {}, 0.5],
] as const) {
  const kills = Math.round(RUN_KILLS * share);
  test(`${kills} kills under run, ${pool}: the next call works, nothing is left, nothing ran twice`, {
    timeout: 120_000 + kills * 60_000,
  }, async (context) => {
    const random = Seeded.fromEnvironment();
    context.diagnostic(`PYRO_SEED=${random.seed}`);
    const home = await homeWithCopies();
    {
      await using _stopped = home;
      const ground = await KillingGround.open(home, env);
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
