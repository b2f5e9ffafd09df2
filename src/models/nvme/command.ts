/**
 * One command from its fetch to its completion. The controller has two halves that share commands:
 * queues and admin commands on one side, data and I/O commands on the other. Commands come from a
 * pool: nothing is allocated for one.
 */

/** 64 bytes as they were fetched (NVMe 1.4, figure 105), and where they came from. */
export class Command {
  /** The dwords, CDW0 to CDW15. */
  readonly dw = new Uint32Array(16);
  /** In the pool: good as a tag while the command is under way. */
  readonly slot: number;
  /** Of the submission queue it came from; 0 is the admin queue. */
  queueId = 0;
  /**
   * The controller's life (enable to reset) that the command belongs to: the controller drops a
   * completion from an earlier life. Negative: the command has ended.
   */
  life = -1;
  /**
   * For queues and admin commands: the result, while the completion waits for room, and the next
   * command that waits for the same completion queue.
   */
  status = 0;
  result = 0;
  next: Command | null = null;
  /** For its event: when the host rang for it, by the clock; negative: it makes none. */
  sinceNs = -0.5;
  /** The event of the doorbell write that announced it; 0: not known. */
  cause = 0;

  constructor(slot: number) {
    this.slot = slot;
  }

  get opcode(): number {
    return this.dw[0]! & 0xff;
  }

  /** FUSE, bits 9:8. */
  get fused(): number {
    return (this.dw[0]! >>> 8) & 3;
  }

  /** PSDT, bits 15:14: 0 is PRP, 1 and 2 are SGL. */
  get dataPointerType(): number {
    return (this.dw[0]! >>> 14) & 3;
  }

  get id(): number {
    return this.dw[0]! >>> 16;
  }

  get nsid(): number {
    return this.dw[1]!;
  }
}

/**
 * Ends a command, exactly once. `status` is the status field without the phase: SC in bits 7:0, SCT
 * in 10:8, More in 13, DNR in 14 (`Status` of abi/nvme.ts has them whole). `result` is dword 0 of
 * the completion.
 */
export type Complete = (command: Command, status: number, result?: number) => void;

/**
 * Executes commands of one kind. `start` ends the command through `Complete`, maybe before `start`
 * returns.
 */
export interface CommandSet {
  start(command: Command): void;
  /**
   * Abort `command` (NVMe 1.4, 5.1): true when the command had not begun, and has now ended with
   * Command Abort Requested.
   */
  abort(command: Command): boolean;
  /** Commands that are fetched together have all been started: begin what was only queued. */
  submit(): void;
  /**
   * Drop all commands (controller reset): afterwards no command completes or touches memory.
   */
  reset(): void;
  /** Commands started and not yet ended. */
  readonly pending: number;
}
