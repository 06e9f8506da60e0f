// The microVM of a workspace while the host has no room for what it writes: it stands still, and goes on when there is.
import type { PyroError } from "../../errors/error.ts";
import type { DiskUser } from "../disk-watch.ts";
import type { Life } from "./life.ts";

export class Room implements DiskUser {
  readonly #life: Life;

  constructor(life: Life) {
    this.#life = life;
  }

  async outOfRoom(freeMib: number): Promise<boolean> {
    return (await this.#life.vm?.machine.outOfRoom(freeMib)) ?? false;
  }

  get roomToGoOnMib(): number {
    return this.#life.vm?.machine.roomToGoOnMib ?? 0;
  }

  /** What runs in it waits; who asks for something new is told. */
  noRoom(error: PyroError): void {
    this.#life.vm?.guest.hold(error);
  }

  async roomAgain(): Promise<void> {
    await this.#life.vm?.goOn();
    // What waited is about to be used again.
    this.#life.idleness.use()();
  }
}
