/**
 * The data of the SMART / Health Information log (NVMe 1.4, 5.14.1.2). A disk's health outlives its
 * controllers: each controller adds its counts when it ends.
 */
import { CriticalWarning } from '../../abi/nvme.ts';
import { SmartLog } from '../../abi/nvme-structs.ts';
import { IO_COUNTERS, type NvmCounters } from './io-counters.ts';

/** WCTEMP and CCTEMP: Kelvin. */
export const WARNING_TEMPERATURE = 343;
export const CRITICAL_TEMPERATURE = 353;
const NORMAL_TEMPERATURE = 313;
const NS_PER_HOUR = 3600e9;

export const HEALTH_COUNTS = [...IO_COUNTERS, 'errors'] as const;

export class Health {
  /** Kelvin. */
  temperature = NORMAL_TEMPERATURE;
  powerCycles = 0;
  unsafeShutdowns = 0;
  /** Nanoseconds of the clocks of controllers that ended. */
  #poweredNs = 0;
  readonly #past = { unitsRead: 0, unitsWritten: 0, readCommands: 0, writeCommands: 0, mediaErrors: 0, errors: 0 };

  /** A controller has ended. @param errors  in its error log */
  add(counters: NvmCounters, errors: number, poweredNs: number): void {
    const past = this.#past;
    past.unitsRead += counters.unitsRead;
    past.unitsWritten += counters.unitsWritten;
    past.readCommands += counters.readCommands;
    past.writeCommands += counters.writeCommands;
    past.mediaErrors += counters.mediaErrors;
    past.errors += errors;
    this.#poweredNs += poweredNs;
  }

  /**
   * The sums over controllers that have ended: counts in the order of `HEALTH_COUNTS`, and power-on
   * time in nanoseconds.
   */
  get past(): readonly number[] {
    return [...HEALTH_COUNTS.map((name) => this.#past[name]), this.#poweredNs];
  }

  set past(past: readonly number[]) {
    HEALTH_COUNTS.forEach((name, i) => {
      this.#past[name] = past[i]!;
    });
    this.#poweredNs = past[HEALTH_COUNTS.length]!;
  }

  /**
   * Returns the log page for the present controller.
   *
   * @param warnings Critical Warning
   * @param errors number of entries in its error log
   * @param poweredNs time since its power-on
   */
  page(counters: NvmCounters, warnings: number, errors: number, poweredNs: number): Uint8Array {
    const page = new Uint8Array(SmartLog.layoutSize);
    const past = this.#past;
    SmartLog.encode(new DataView(page.buffer), {
      criticalWarning: warnings,
      compositeTemperature: this.temperature,
      availableSpare: 100,
      availableSpareThreshold: 10,
      dataUnitsRead: thousands(past.unitsRead + counters.unitsRead),
      dataUnitsWritten: thousands(past.unitsWritten + counters.unitsWritten),
      hostReadCommands: BigInt(past.readCommands + counters.readCommands),
      hostWriteCommands: BigInt(past.writeCommands + counters.writeCommands),
      powerCycles: BigInt(this.powerCycles),
      powerOnHours: BigInt(Math.floor((this.#poweredNs + poweredNs) / NS_PER_HOUR)),
      unsafeShutdowns: BigInt(this.unsafeShutdowns),
      mediaErrors: BigInt(past.mediaErrors + counters.mediaErrors),
      errorLogEntries: BigInt(past.errors + errors),
    });
    return page;
  }

  /**
   * Critical Warning for the thresholds that the host set: at or above `over`, at or below `under`
   * (5.21.1.4).
   */
  warnings(over: number, under: number): number {
    return this.temperature >= over || this.temperature <= under ? CriticalWarning.TEMPERATURE : 0;
  }
}

/** Data units: thousands of 512 bytes, rounded up. */
function thousands(units: number): bigint {
  return BigInt(Math.ceil(units / 1000));
}
