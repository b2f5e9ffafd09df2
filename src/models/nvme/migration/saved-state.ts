/**
 * The state of an NVMe controller when it is moved, as plain data: version 1. A later version adds
 * fields, and reads the earlier versions.
 */
import { NvmeReg } from '../../../abi/nvme.ts';
import type { FeatureState } from '../admin/features.ts';

export const STATE_VERSION = 1;

/** Properties that two controllers must share. */
export interface ControllerShape {
  readonly ioQueues: number;
  /** Entries of an I/O queue at most. */
  readonly entries: number;
  readonly mdts: number;
  readonly namespaces: readonly NamespaceShape[];
}

export interface NamespaceShape {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly volatile: boolean;
  /** Whether its contents are sent. */
  readonly sent: boolean;
}

export interface SavedNamespace extends NamespaceShape {
  readonly blockShift: number;
  /** Empty: none. */
  readonly nguid: Uint8Array;
  readonly eui64: Uint8Array;
  /** `Limiter.ahead`; null without limits. */
  readonly ahead: { readonly commands: number; readonly bytes: number } | null;
}

export interface SavedCompletionQueue {
  readonly id: number;
  readonly iova: bigint;
  readonly size: number;
  readonly vector: number;
  readonly interrupts: boolean;
  readonly head: number;
  readonly tail: number;
  readonly phase: number;
  readonly fresh: number;
}

export interface SavedSubmissionQueue {
  readonly id: number;
  readonly iova: bigint;
  readonly size: number;
  readonly cq: number;
  readonly head: number;
  readonly tail: number;
}

/** Where a command that is under way stands. */
export const Standing = {
  /** It is to be done, from the beginning. */
  AGAIN: 0,
  /** It waits for an event. */
  EVENT: 1,
  /** It has ended, and its completion has no room. */
  ENDED: 2,
  /** It waits for a limit of its namespace. */
  LIMITED: 3,
  /** Delete I/O Submission Queue: it waits for the queue's commands. */
  DELETING: 4,
} as const;
export type Standing = (typeof Standing)[keyof typeof Standing];

export interface SavedCommand {
  readonly queue: number;
  readonly standing: Standing;
  readonly dw: Uint32Array;
  /** Of what has ended. */
  readonly status: number;
  readonly result: number;
  /** Nanoseconds, of what waits for a limit. */
  readonly leftNs: number;
  /** The queue that is being deleted. */
  readonly deletes: number;
}

export interface SavedState {
  readonly identity: { readonly serial: string; readonly model: string; readonly firmware: string; readonly nqn: string };
  readonly limits: { readonly ioQueues: number; readonly entries: number; readonly mdts: number };
  readonly namespaces: readonly SavedNamespace[];
  /** CC, CSTS, AQA, ASQ and ACQ (low, high), INTMS. */
  readonly registers: Uint32Array;
  readonly running: boolean;
  readonly features: FeatureState;
  readonly health: {
    readonly past: Float64Array;
    readonly powerCycles: number;
    readonly unsafeShutdowns: number;
    readonly temperature: number;
    readonly warnings: number;
  };
  readonly errors: { readonly count: number; readonly entries: Uint8Array };
  readonly events: { readonly pending: Float64Array; readonly masked: Uint8Array };
  readonly changed: Float64Array;
  readonly keepAliveLeftMs: number;
  readonly shadow: { readonly values: bigint; readonly events: bigint } | null;
  readonly completionQueues: readonly SavedCompletionQueue[];
  readonly submissionQueues: readonly SavedSubmissionQueue[];
  readonly commands: readonly SavedCommand[];
  readonly interrupts: { readonly held: Uint32Array; readonly leftNs: Float64Array; readonly unsent: Uint8Array };
}

/** In `SavedState.registers`. */
export const SAVED_REGISTERS = [
  NvmeReg.CC,
  NvmeReg.CSTS,
  NvmeReg.AQA,
  NvmeReg.ASQ,
  NvmeReg.ASQ_HIGH,
  NvmeReg.ACQ,
  NvmeReg.ACQ_HIGH,
] as const;
