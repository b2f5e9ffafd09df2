/** The work of one thread of a server, in values that another thread can be given. */
import type { MachineSpec } from '../../engine/machine/machine-spec.ts';
import type { Slice } from '../../engine/machine/units.ts';
import type { ServerLimits } from '../../vfio-user/limits.ts';
import type { ModelAddress } from '../device-code.ts';
import type { PowerOnNumbers } from './shared-table.ts';

/** How each part serves its clients; as the options of `MachineServer` and `DeviceServer`. */
export interface ServingOptions {
  readonly limits?: Partial<ServerLimits>;
  readonly memlockLimit?: number;
  readonly manage?: boolean;
  /** Files of mediators, absolute. */
  readonly mediators?: readonly string[];
  /** For a machine: see `MachineServerOptions.vfToken`. */
  readonly vfToken?: string;
}

/** Serve functions of a machine, each at its socket in `directory`. */
export interface MachineJob extends ServingOptions {
  readonly kind: 'machine';
  readonly name: string;
  /** The machine file: names of other files are relative to its folder. */
  readonly file: string;
  /** The functions of this job, with every bridge of the machine. */
  readonly spec: MachineSpec;
  /** Functions of `spec` that another thread has (engine/machine/units.ts). */
  readonly standIns: readonly string[];
  readonly directory: string;
  readonly atPowerOn: PowerOnNumbers;
}

/** A device with a socket. */
export interface ServedDevice {
  readonly name: string;
  readonly address: ModelAddress;
  /** Of the socket. */
  readonly path: string;
  /** Load its code anew when a file of it changes. */
  readonly watch?: boolean;
}

/** Serve devices, each of which has a machine of its own. */
export interface DevicesJob extends ServingOptions {
  readonly kind: 'devices';
  readonly name: string;
  readonly devices: readonly ServedDevice[];
}

export type Job = MachineJob | DevicesJob;

/** Find out how the machine in `file` can be divided. */
export interface Survey {
  readonly kind: 'survey';
  readonly name: string;
  readonly file: string;
  /** The most threads. */
  readonly threads: number;
}

/** Functions for one thread. */
export interface Share extends Slice {
  /** Its functions at power-on, without the bridges. */
  readonly functions: readonly string[];
}

/** The answer to a survey. */
export interface Plan {
  readonly name: string;
  /** Each has one or more of the sets of functions that share nothing. */
  readonly shares: readonly Share[];
  /** The machine without a function besides its bridges. */
  readonly bridges: Slice;
  readonly atPowerOn: PowerOnNumbers;
}

/** A socket that a part listens at. */
export interface ServedSocket {
  readonly path: string;
  /** The function's address, or the device's name. */
  readonly name: string;
  /** A description for people. */
  readonly about: string;
}

/** All that a thread needs to begin. */
export interface ThreadData {
  readonly work: Job | Survey;
  /** The number of the thread, in the table of what threads share. */
  readonly thread: number;
  readonly table: SharedArrayBuffer;
  /** Batches of events that the starting thread has taken: see event-relay.ts. */
  readonly taken: SharedArrayBuffer;
  /** Bytes of output that the starting thread has not taken yet: see thread-output.ts. */
  readonly printed: SharedArrayBuffer;
  /** Whether the starting thread wants the events, and their data. */
  readonly events: { readonly on: boolean; readonly data: boolean };
}
