/** Options of `vfio serve`, as the servers of a device and of a machine use them. */
import type { AddressOptions } from '../../api/address.ts';
import type { ModelAddress } from '../../api/device-code.ts';
import { importMediators } from '../../api/import-mediator.ts';
import type { ServePartsOptions } from '../../api/threads/serve-parts.ts';
import { VfioError } from '../../base/errno.ts';
import type { Logger } from '../../base/log.ts';
import { printableLines } from '../../base/printable.ts';
import type { Mediators } from '../../engine/mediation/mediators.ts';
import type { ServerLimits } from '../../vfio-user/limits.ts';
import { longName, type OptionSpec } from '../command.ts';
import type { EventsOptions } from '../event-options.ts';
import type { Terminal } from '../terminal.ts';
import { deviceOptions } from './device-options.ts';

export interface ServeOptions extends EventsOptions {
  readonly socketPath?: string;
  readonly fd?: number;
  readonly stdio?: boolean;
  readonly watch?: boolean;
  readonly memlock?: number;
  readonly record?: string;
  readonly mediator?: readonly string[];
  readonly manage?: boolean;
  readonly allowAnyFile?: boolean;
  readonly spin?: boolean;
  readonly threads?: number;
  readonly maxSparse?: number;
  readonly vfTokenFile?: string;
  /** Those of `deviceOptions`, under the names that models have for them. */
  readonly [name: string]: unknown;
}

/** The name that commander and models have for an option: `blockSize`. */
const camelCase = (option: OptionSpec) => longName(option).replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());

/** Options of the device that the command line gives, by the names that models have for them. */
export function givenDeviceOptions(options: ServeOptions): Readonly<Record<string, unknown>> {
  const names = deviceOptions.map(camelCase).filter((name) => options[name] !== undefined);
  return Object.fromEntries(names.map((name) => [name, options[name]]));
}

/** @throws VfioError EINVAL when an option of a device of the package is given */
export function refuseDeviceOptions(options: ServeOptions, why: string): void {
  const first = deviceOptions.find((option) => options[camelCase(option)] !== undefined);
  if (first === undefined) return;
  throw new VfioError('EINVAL', `--${longName(first)} is for devices that come with the package: ${why}`);
}

/** The address with the options of the device that the command line gives. */
export function withDeviceOptions(address: ModelAddress, options: ServeOptions): ModelAddress {
  if (address.kind === 'file') {
    refuseDeviceOptions(options, `${address.path} is a device of your own`);
    return address;
  }
  return { ...address, options: { ...address.options, ...(givenDeviceOptions(options) as AddressOptions) } };
}

export async function mediatorsOf({ mediator }: ServeOptions): Promise<{ readonly mediators?: Mediators }> {
  return mediator === undefined ? {} : { mediators: await importMediators(mediator) };
}

/** The options of serving in threads. */
export function servingOf(options: ServeOptions): ServePartsOptions {
  const { manage = true, mediator, memlock, threads } = options;
  return {
    manage,
    limits: clientLimits(options),
    ...(mediator === undefined ? {} : { mediators: mediator }),
    ...(memlock === undefined ? {} : { memlockLimit: memlock }),
    ...(threads === undefined ? {} : { threads }),
  };
}

export function clientLimits({ allowAnyFile, maxSparse, spin = true }: ServeOptions): Partial<ServerLimits> {
  return { anyFile: allowAnyFile ?? false, spin, ...(maxSparse === undefined ? {} : { maxSparseBytes: maxSparse }) };
}

/** Log lines of level info appear, too: they report clients that come and go. */
export function logTo({ err }: Terminal): Logger {
  return {
    log: (level, message) => {
      if (level !== 'debug') for (const line of printableLines(level === 'info' ? message : `${level}: ${message}`)) err(line);
    },
  };
}

/** Prints lines that say how a device is reached. Events may have standard output. */
export function guideOf({ events = [] }: ServeOptions, { out, err }: Terminal): Terminal['out'] {
  return events.some(({ path }) => path === '-') ? err : out;
}
