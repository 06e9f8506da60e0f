// The command pyro, from source: what tests start.
import { main } from "../../src/cli/main.ts";

await main(process.argv.slice(2));
