/**
 * The commands of one device: from the moment that the device takes one to its end. An event
 * reports a command at its end, with its latency by the device's clock, and with the access that
 * led to it as cause. Without a reader of events nothing is kept.
 */
import type { EventDetails, EventPort } from '../../abi/event.ts';
import type { Clock } from '../../base/clock.ts';
import { shownValue } from '../../base/declared.ts';
import { noSuch } from './no-such.ts';

/** The kinds of a command's fields. */
export const commandFieldTypes = ['number', 'bigint', 'text', 'flag'] as const;
/** The kind of a command's field. */
export type CommandFieldType = (typeof commandFieldTypes)[number];

/** Fields of one command, by name: `{ iova: 'bigint', count: 'number' }`. */
export type CommandFields = Readonly<Record<string, CommandFieldType>>;

/** Commands of a device, by name: `{ copy: { iova: 'bigint', count: 'number' } }`. */
export type CommandsSpec = Readonly<Record<string, CommandFields>>;

interface FieldValue {
  readonly number: number;
  readonly bigint: bigint;
  readonly text: string;
  readonly flag: boolean;
}

/** The values of a command's fields. @typeParam F their declaration */
export type CommandValues<F> = { readonly [N in keyof F]: F[N] extends CommandFieldType ? FieldValue[F[N]] : never };

/** A command that a device has taken. @typeParam F the declaration of its fields */
export interface RunningCommand<F = CommandFields> {
  /**
   * The command is over. A second call does nothing.
   *
   * @param status `ok`, or the device's own word for its failure. Default: 'ok'.
   * @param more values of fields that are known only now
   */
  end(status?: string, more?: Partial<CommandValues<F>>): void;
}

/** Commands under way that are remembered; more make no event. */
export const UNDER_WAY_MAX = 4096;
/** Characters of a text field. */
const TEXT_MAX = 256;

const typeOf = { number: 'number', bigint: 'bigint', text: 'string', flag: 'boolean' } as const satisfies Record<CommandFieldType, string>;

/** A command that no event reports: no reader of events was there when it began. */
const unseen: RunningCommand = Object.freeze({ end() {} });

export class Commands {
  readonly #declared: CommandsSpec;
  readonly #events: EventPort;
  readonly #clock: Pick<Clock, 'nowNs'>;
  /** Reports a mistake of the model. */
  readonly #failed: (what: string, error: unknown) => void;
  /** In the order in which they began. */
  readonly #underWay = new Set<Running>();

  /** @param failed reports a value that is not of the declared kind */
  constructor(declared: CommandsSpec, events: EventPort, clock: Pick<Clock, 'nowNs'>, failed: (what: string, error: unknown) => void) {
    this.#declared = declared;
    this.#events = events;
    this.#clock = clock;
    this.#failed = failed;
  }

  /**
   * @param seen false: the command is of a life that has ended, and makes no event
   * @throws VfioError EINVAL for a command that the device does not declare
   */
  begin(name: string, fields: object, seen: boolean): RunningCommand {
    const declared = this.#fieldsOf(name);
    if (!seen || !this.#events.on || this.#underWay.size >= UNDER_WAY_MAX) return unseen;
    const values: Record<string, number | bigint | string | boolean> = {};
    this.#put(name, declared, values, fields);
    const running: Running = {
      name,
      values,
      sinceNs: this.#clock.nowNs(),
      cause: this.#events.cause,
      end: (status = 'ok', more = {}) => {
        if (!this.#underWay.delete(running)) return;
        this.#put(name, declared, values, more);
        this.#emit(running, status);
      },
    };
    this.#underWay.add(running);
    return running;
  }

  /**
   * The oldest command of that name is over.
   * @throws VfioError EINVAL for a command that the device does not declare
   */
  end(name: string, status?: string, more?: object): void {
    this.#fieldsOf(name);
    for (const running of this.#underWay) {
      if (running.name !== name) continue;
      running.end(status, more);
      return;
    }
  }

  /** All that are under way end with `status`. */
  drop(status: string): void {
    for (const running of this.#underWay) this.#emit(running, status);
    this.#underWay.clear();
  }

  #fieldsOf(name: string): CommandFields {
    if (Object.hasOwn(this.#declared, name)) return this.#declared[name]!;
    throw noSuch('command', name, Object.keys(this.#declared));
  }

  /** A wrong value is a mistake of the model; the field is missing then. */
  #put(name: string, declared: CommandFields, values: Record<string, unknown>, given: object): void {
    for (const [field, value] of Object.entries(given)) {
      const type = Object.hasOwn(declared, field) ? declared[field]! : null;
      if (type !== null && typeof value === typeOf[type]) values[field] = type === 'text' ? (value as string).slice(0, TEXT_MAX) : value;
      else if (type === null) this.#failed(`command ${name}`, `it declares no field '${field}'`);
      else this.#failed(`command ${name}`, `its field '${field}' is ${shownValue(value)}, and not of kind '${type}'`);
    }
  }

  #emit({ name, values, sinceNs, cause }: Running, status: string): void {
    const events = this.#events;
    if (!events.on) return;
    const before = events.cause;
    events.cause = cause;
    const latencyNs = this.#clock.nowNs() - sinceNs;
    events.emit('command', { name, fields: values, status: String(status).slice(0, TEXT_MAX), latencyNs });
    events.cause = before;
  }
}

interface Running extends RunningCommand {
  readonly name: string;
  readonly values: EventDetails<'command'>['fields'];
  readonly sinceNs: number;
  /** The event in whose answer it began. */
  readonly cause: number;
  end(status?: string, more?: object): void;
}
