// The commands of a workspace: what was run in it, and what runs.
import type { CommandHost } from "./command-host.ts";
export class Commands {
  static async open(_host: CommandHost): Promise<Commands> {
    return new Commands();
  }
  get count(): number {
    return 0;
  }
  get last():
    | {
        process_id: string;
        sequence: number;
        command: string[];
        state: "running" | "exited";
        exit_code: number | null;
        started_at: string;
      }
    | undefined {
    return undefined;
  }
  async adopt(_alive: boolean): Promise<void> {}
  async lose(_why: string): Promise<void> {}
  async abandon(_e: Error): Promise<void> {}
  async release(): Promise<void> {}
}
