/** `vfio run driver.ts ADDRESS`: loads a driver and calls its `main`. */
import { VfioError } from '../base/errno.ts';
import type { EventStream } from '../events/stream.ts';
import { parseAddress } from './address.ts';
import { importFile } from './import-file.ts';
import { duringRun, type RunOpening } from './running-driver.ts';
import { orNever } from './unsettled.ts';

/** The options that a driver's `main` gets besides the address. */
export interface DriverContext {
  /** The arguments behind the address on the command line. */
  readonly args: readonly string[];
  /**
   * The first Ctrl-C and SIGTERM abort this signal: then waits of the driver on its devices fail
   * with EINTR, and its blocks end in order.
   */
  readonly signal: AbortSignal;
  /** The VF token, when the user gave one: for `open(address, { token })`. */
  readonly token?: string | undefined;
}

/**
 * The exports of a driver file. When `main` resolves to a number, the number is the exit status.
 */
export type DriverMain = (address: string, context: DriverContext) => unknown;

/**
 * Run the driver in `file` on the device at `address`. Resolves to the exit status: the result of
 * `main` when that is a number from 0 to 255, else 0.
 *
 * @param events  the stream for devices that it opens without another one
 * @param how  how its devices are opened, where it does not say
 * @throws VfioError EINVAL for a text that is not an address, for a file without a driver, and for
 *   a `main` that never ends; ENOENT when there is no such file; the errors of the driver
 */
export async function runDriver(
  file: string,
  address: string,
  context: Partial<DriverContext> = {},
  events: EventStream | null = null,
  how: RunOpening = {},
): Promise<number> {
  parseAddress(address);
  const { main } = (await importFile(file)) as { main?: DriverMain };
  if (typeof main !== 'function') {
    throw new VfioError('EINVAL', `${file} is no driver: it does not export main`, {
      fix: 'It must say "export async function main(address: string, { args, signal }) { … }".',
    });
  }
  const { args = [], signal = new AbortController().signal, token } = context;
  const given: DriverContext = { args, signal, ...(token === undefined ? {} : { token }) };
  const result = await duringRun(signal, events, () => orNever(Promise.resolve(main(address, given)), () => neverEnds(file)), how);
  return typeof result === 'number' && Number.isInteger(result) && result >= 0 && result <= 255 ? result : 0;
}

function neverEnds(file: string): VfioError {
  return new VfioError('EINVAL', `main of ${file} never ends: it awaits a promise that never settles`, {
    fix: 'In main await only promises that settle.',
  });
}
