/** `vfio run driver.ts ADDRESS`: loads a driver and calls what it exports as `main`. */
import { VfioError } from '../base/errno.ts';
import { parseAddress } from './address.ts';
import { importFile } from './import-file.ts';

/** What a driver hands on to `open(address, options)`. */
export interface DriverOptions {
  /** The VF token, when one was given. */
  readonly token?: string | undefined;
}

/** What a driver file exports. What it resolves to is the exit status when it is a number. */
export type DriverMain = (address: string, args: readonly string[], options: DriverOptions) => unknown;

/**
 * Run the driver in `file` on the device at `address`. Resolves to the exit status: what `main` gave when that is a number from 0 to 255, else 0.
 *
 * @throws VfioError EINVAL for what is no address or no driver; ENOENT when there is no such file; and whatever the driver throws
 */
export async function runDriver(file: string, address: string, args: readonly string[] = [], options: DriverOptions = {}): Promise<number> {
  parseAddress(address);
  const { main } = (await importFile(file)) as { main?: DriverMain };
  if (typeof main !== 'function') {
    throw new VfioError('EINVAL', `${file} is no driver: it does not export main`, {
      fix: 'It must say "export async function main(address: string, args: string[]) { … }".',
    });
  }
  const result = await main(address, args, options);
  return typeof result === 'number' && Number.isInteger(result) && result >= 0 && result <= 255 ? result : 0;
}
