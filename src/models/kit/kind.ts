/** A declaration, compiled: everything that all devices of one kind share at run time. */
import type { Width } from '../../abi/device-host.ts';
import { VfioError } from '../../base/errno.ts';
import { nearest } from '../../base/nearest.ts';
import { type AnyBar, RegisterBar } from './bar.ts';
import type { CommandsSpec } from './commands.ts';
import type { ConfigRegisters } from './config-registers.ts';
import type { Handler } from './handlers.ts';
import type { KindMigration } from './migration.ts';
import type { RegisterLayout } from './register-layout.ts';
import { serial } from './serial.ts';

export type ReadHandler = (dev: object, stored: number | bigint) => number | bigint;

/** Registers of a BAR or of config space, and the handlers of each. */
export interface Space {
  readonly layout: RegisterLayout;
  /** `bar0.name`, by slot. */
  readonly paths: readonly string[];
  readonly handlers: readonly (Handler | undefined)[];
  readonly readers: readonly (ReadHandler | undefined)[];
  readonly handled: Uint8Array;
  readonly computed: Uint8Array;
}

/** Of `regions` of the declaration; its index is its place there and `FIRST_REGION`. */
export interface Region {
  readonly read?: (dev: object, offset: number, width: Width) => number;
  readonly write?: (dev: object, offset: number, width: Width, value: number) => unknown;
}

type AnyFunction = (...args: never) => unknown;

export interface KindSpec {
  readonly config?: ConfigRegisters | undefined;
  readonly state?: () => unknown;
  readonly on?: object;
  readonly read?: object;
  readonly timers?: object;
  readonly inputs?: object;
  readonly outputs?: object;
  readonly commands?: CommandsSpec | undefined;
  readonly regions?: readonly object[] | undefined;
  readonly migration?: true | object;
}

export interface Kind {
  readonly name: string;
  readonly bars: readonly (AnyBar | undefined)[];
  /** By BAR; of config space, where the device has registers there, at `CONFIG_SPACE`. */
  readonly spaces: readonly (Space | null)[];
  readonly state: () => unknown;
  readonly start: Handler | undefined;
  readonly config: Handler | undefined;
  readonly power: Handler | undefined;
  readonly timers: Readonly<Record<string, Handler>>;
  readonly inputs: Readonly<Record<string, (dev: object, ...args: never) => unknown>>;
  readonly outputs: Readonly<Record<string, AnyFunction>>;
  readonly commands: CommandsSpec;
  readonly regions: readonly Region[];
  /** Null: it cannot be moved. */
  readonly migration: KindMigration | null;
}

export const CONFIG_SPACE = 6;

const lifeHandlers = ['start', 'config', 'power'];

/**
 * @throws VfioError EINVAL for a handler of a register that is not there, or that would never run
 */
export function compileKind(name: string, bars: readonly (AnyBar | undefined)[], spec: KindSpec): Kind {
  const on = Object.fromEntries(Object.entries(spec.on ?? {}).map(([path, handler]) => [path, handlerOf(handler)]));
  const read = { ...spec.read } as Record<string, ReadHandler | undefined>;
  const layouts = bars.map((bar) => (bar instanceof RegisterBar ? bar.layout : null));
  if (spec.config !== undefined) layouts[CONFIG_SPACE] = spec.config.layout;
  const spaces = layouts.map((layout, i) =>
    layout === null ? null : compileSpace(name, i === CONFIG_SPACE ? 'config' : `bar${i}`, layout, on, read),
  );
  const known = new Set([...lifeHandlers, ...spaces.flatMap((space) => space?.paths.slice(1) ?? [])]);
  for (const key of [...Object.keys(on), ...Object.keys(read)]) {
    if (known.has(key)) continue;
    const near = nearest(key, known);
    throw new VfioError(
      'EINVAL',
      `${name}: there is no register ${key} for its handler`,
      near === null ? {} : { fix: `Did you mean '${near}'?` },
    );
  }
  return {
    name,
    bars,
    spaces,
    state: spec.state ?? (() => undefined),
    start: on.start,
    config: on.config,
    power: on.power,
    timers: { ...spec.timers } as Record<string, Handler>,
    inputs: { ...spec.inputs } as Kind['inputs'],
    outputs: { ...spec.outputs } as Kind['outputs'],
    commands: { ...spec.commands },
    regions: (spec.regions ?? []) as readonly Region[],
    migration: spec.migration === undefined ? null : spec.migration === true ? {} : (spec.migration as KindMigration),
  };
}

/** `{ serial: handler }` is a handler too. */
function handlerOf(declared: Handler | { readonly serial: Handler } | undefined): Handler | undefined {
  return typeof declared === 'object' ? serial(declared.serial) : declared;
}

function compileSpace(
  name: string,
  space: string,
  layout: RegisterLayout,
  on: Record<string, Handler | undefined>,
  read: Record<string, ReadHandler | undefined>,
): Space {
  const { names, declarations, readable } = layout;
  const paths = names.map((register) => `${space}.${register}`);
  for (let slot = 1; slot < names.length; slot++) {
    const d = declarations[slot]!;
    const path = paths[slot]!;
    if (on[path] !== undefined && d.writable === 0n && d.writeOneClears === 0n) {
      throw new VfioError('EINVAL', `${name}: ${path} is read-only, so its handler in 'on' would never run`);
    }
    if (read[path] !== undefined && readable[slot] === 0) {
      throw new VfioError('EINVAL', `${name}: ${path} is write-only, so its handler in 'read' would never run`);
    }
  }
  const handlers = paths.map((path, slot) => (slot === 0 ? undefined : on[path]));
  const readers = paths.map((path, slot) => (slot === 0 ? undefined : read[path]));
  const flags = (list: readonly unknown[]) => Uint8Array.from(list, (f) => Number(f !== undefined));
  return { layout, paths, handlers, readers, handled: flags(handlers), computed: flags(readers) };
}
