/** Register traffic of served devices in a file: one line of JSON per access, in order. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { VfioError } from '../base/errno.ts';
import { Mediators } from '../engine/mediation/mediators.ts';
import { type RegisterRecord, registerRecorder } from '../mediators/register-recorder.ts';

/** Lines are written so many characters at a time, and when it ends: a device must not wait for a disk at each access. */
const CHUNK = 64 * 1024;

const regionNames = ['BAR 0', 'BAR 1', 'BAR 2', 'BAR 3', 'BAR 4', 'BAR 5', 'ROM', 'config'] as const;

/** Give `mediators` to the machine, and dispose of this after it. */
export class RegisterTraffic implements Disposable {
  readonly mediators = new Mediators();
  readonly #fd: number;
  readonly #onTrouble: (message: string) => void;
  #lines = '';
  #closed = false;
  #failed = false;

  /** @param onTrouble  told once when the file cannot be written any more   @throws VfioError EACCES, ENOENT, EISDIR when it cannot be opened */
  constructor(path: string, onTrouble: (message: string) => void) {
    try {
      this.#fd = openSync(path, 'w', 0o600);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      throw new VfioError(code === 'ENOENT' || code === 'EISDIR' ? code : 'EACCES', `${path} cannot be written: ${code}`, { cause });
    }
    this.#onTrouble = onTrouble;
    this.mediators.register(registerRecorder({ onRecord: (record) => this.#take(record) }));
  }

  #take(record: RegisterRecord): void {
    this.#lines += `${lineOf(record)}\n`;
    if (this.#lines.length >= CHUNK) this.#flush();
  }

  #flush(): void {
    const lines = this.#lines;
    this.#lines = '';
    if (this.#failed) return;
    try {
      writeSync(this.#fd, lines);
    } catch (error) {
      // The device is worth more than its record.
      this.#failed = true;
      this.#onTrouble(`the record of register traffic ends here: ${(error as Error).message}`);
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    closeSync(this.#fd);
  }
}

function lineOf({ timeNs, device, region, access, offset, bytes, size }: RegisterRecord): string {
  const width =
    size <= 8 && (size & (size - 1)) === 0
      ? { value: `0x${Buffer.from(bytes).reverse().toString('hex')}` }
      : { bytes: Buffer.from(bytes).toString('hex') };
  return JSON.stringify({
    timeNs,
    device,
    region: regionNames[region] ?? region,
    access,
    offset: `0x${offset.toString(16)}`,
    size,
    ...width,
  });
}
