/** Register traffic of served devices in a file: one line of JSON per access, in order. */
import { closeSync } from 'node:fs';
import { printableJson } from '../../base/printable.ts';
import { Mediators } from '../../engine/mediation/mediators.ts';
import { type RegisterRecord, registerRecorder } from '../../mediators/register-recorder.ts';
import { LineOutput } from '../../sys/line-output.ts';
import { openPrivate } from '../../sys/private-file.ts';

const LINES_AT_ONCE = 500;

const regionNames = ['BAR 0', 'BAR 1', 'BAR 2', 'BAR 3', 'BAR 4', 'BAR 5', 'ROM', 'config'] as const;

/** Give `mediators` to the machine, and dispose of this after it. */
export class RegisterTraffic implements Disposable {
  readonly mediators = new Mediators();
  readonly #output: LineOutput;
  /** Lines of this turn of the event loop: they are written together at its end. */
  #lines: string[] = [];

  /**
   * @param onTrouble  is called when lines get lost, and when no more do
   * @throws VfioError EACCES, ENOENT, EISDIR, EROFS, ENXIO when the file cannot be opened
   */
  constructor(path: string, onTrouble: (message: string) => void) {
    const fd = openPrivate(path);
    try {
      this.#output = new LineOutput(fd, {
        missing: (count) => JSON.stringify({ missing: count }),
        onDropped: (reason) => onTrouble(`${path}: ${reason}: lines of the record get lost`),
        onAgain: (count) => onTrouble(`${path} can be written again: ${count} lines of the record are missing`),
      });
    } finally {
      closeSync(fd);
    }
    this.mediators.register(registerRecorder({ onRecord: (record) => this.#take(record) }));
  }

  #take(record: RegisterRecord): void {
    if (this.#lines.length === 0) setImmediate(() => this.#flush());
    this.#lines.push(`${lineOf(record)}\n`);
    // A turn may be long.
    if (this.#lines.length >= LINES_AT_ONCE) this.#flush();
  }

  #flush(): void {
    const lines = this.#lines;
    this.#lines = [];
    if (lines.length > 0) this.#output.write(lines.join(''), lines.length);
  }

  [Symbol.dispose](): void {
    this.#flush();
    this.#output[Symbol.dispose]();
  }
}

function lineOf({ timeNs, device, region, access, offset, bytes, size }: RegisterRecord): string {
  const width =
    size <= 8 && (size & (size - 1)) === 0
      ? { value: `0x${Buffer.from(bytes).reverse().toString('hex')}` }
      : { bytes: Buffer.from(bytes).toString('hex') };
  const record = {
    timeNs,
    device,
    region: regionNames[region] ?? region,
    access,
    offset: `0x${offset.toString(16)}`,
    size,
    ...width,
  };
  return printableJson(JSON.stringify(record));
}
