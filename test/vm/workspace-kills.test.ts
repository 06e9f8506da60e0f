// Random kills under the operations of workspaces, by a printed seed. PYRO_WORKSPACE_KILLS says how many; `make soak`
// asks for more than the usual few.
import { test } from "node:test";
import { countFrom, Seeded } from "../seed.ts";
import { homeWithCopies } from "./random-kills.ts";
import { untilNothingRuns } from "./remains.ts";
import { OPERATIONS, randomKill, WorkspaceGround } from "./workspace-kills.ts";

const KILLS = countFrom("PYRO_WORKSPACE_KILLS", 10);

test(`${KILLS} kills under workspaces: each is usable or says why not, and nothing is left`, {
  timeout: 240_000 + KILLS * 90_000,
}, async (context) => {
  const random = Seeded.fromEnvironment();
  context.diagnostic(`PYRO_SEED=${random.seed}`);
  const home = await homeWithCopies({ poolSize: 0 });
  {
    await using _home = home;
    await using ground = await WorkspaceGround.open(home);
    context.diagnostic(ground.summary);
    for (let index = 0; index < KILLS; index++) {
      const kill = randomKill(random, OPERATIONS[index % OPERATIONS.length] ?? "exec");
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
