/** Where an administrator's commands are carried out. */
import type { Machine } from '../../engine/machine/machine.ts';
import type { EventSource } from '../../events/source.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { type MachineDocument, machineDocument } from '../machine-document.ts';
import { type AdminAnswer, type AdminArguments, type AdminProgress, adminCommand } from './commands.ts';

/** One command, with arguments that fit its row. */
export interface AdminRequest {
  readonly command: string;
  readonly given: AdminArguments;
  /**
   * The function beside whose socket the request came; null: it came to the machine's door.
   */
  readonly own: string | null;
}

/** Administers a served machine: the machine itself, or the threads that it runs in. */
export interface AdminDesk {
  /** The machine as it is now. */
  status(): MachineDocument | Promise<MachineDocument>;
  /** @throws VfioError (rejects) the errors of the command */
  carryOut(request: AdminRequest, progress: AdminProgress): Promise<AdminAnswer>;
}

export interface MachineDeskOptions {
  /** The machine at the moment. */
  readonly machine: () => Machine;
  /** The machine stays. False: each client gets a new machine. */
  readonly stays: boolean;
  /** The device that `plug` names. @throws VfioError (rejects) ENOENT, EINVAL */
  readonly model: (device: string) => Promise<DeviceModel>;
  /** Gets a note of each command that changes something. */
  readonly events: EventSource;
}

/** The desk of a machine in this thread. */
export class MachineDesk implements AdminDesk {
  readonly #options: MachineDeskOptions;

  constructor(options: MachineDeskOptions) {
    this.#options = options;
  }

  status(): MachineDocument {
    return machineDocument(this.#options.machine());
  }

  async carryOut({ command, given, own }: AdminRequest, progress: AdminProgress): Promise<AdminAnswer> {
    const { machine, stays, model, events } = this.#options;
    const row = adminCommand(command);
    const words = Object.entries(given).map(([name, value]) => (value === true ? `--${name}` : `${name}=${value}`));
    const text = `administrator: ${[command, ...words].join(' ')}`;
    const seq = row.looks === true ? 0 : events.emit('note', { level: 'info', about: 'administrator', text });
    return await events.during(seq, () => row.run({ machine: machine(), own, stays, model, progress }, given));
  }
}
