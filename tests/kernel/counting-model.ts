/** A device of 4 KiB of registers that expects the accesses of a sequence, and counts them. */
import type { Model, Width } from '../../src/abi/device-host.ts';
import { bar } from '../../src/models/kit/bar.ts';
import { device } from '../../src/models/kit/device.ts';
import type { DeviceModel } from '../../src/pci/declaration.ts';
import { AccessSequence } from './access-sequence.ts';

export class CountingModel implements Model {
  readonly #expected = new AccessSequence();
  /** Accesses as expected, by kind and width: `read 4`. */
  readonly counts: Record<string, number> = {};
  /** The first accesses that were others than expected. */
  readonly wrong: string[] = [];
  wrongs = 0;

  #look(write: boolean, offset: number, width: number, low: number, high: number): AccessSequence['access'] {
    const expected = this.#expected.advance();
    const same = expected.write === write && expected.offset === offset && expected.width === width;
    if (!same || (write && (expected.low !== low || (width === 8 && expected.high !== high)))) {
      this.wrongs++;
      if (this.wrong.length < 10) {
        const { write: w, width: n, offset: at } = expected;
        this.wrong.push(`${this.#expected.made}: ${String(write)} ${width} at ${offset} for ${String(w)} ${n} at ${at}`);
      }
    }
    const kind = `${write ? 'write' : 'read'} ${width}`;
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    return expected;
  }

  read(_bar: number, offset: number, width: Width): number {
    return this.#look(false, offset, width, 0, 0).low;
  }

  write(_bar: number, offset: number, width: Width, value: number): void {
    this.#look(true, offset, width, value, 0);
  }

  read64(_bar: number, offset: number): bigint {
    const { low, high } = this.#look(false, offset, 8, 0, 0);
    return (BigInt(high) << 32n) | BigInt(low);
  }

  write64(_bar: number, offset: number, value: bigint): void {
    this.#look(true, offset, 8, Number(value & 0xffff_ffffn), Number(value >> 32n));
  }

  reset(): void {}
}

/** A kind of which each device is `model`. */
export function counting(model: CountingModel): DeviceModel {
  const { declaration } = device({ id: '1234:c097', name: 'counting', bars: { bar0: bar('4K', {}) } });
  return { declaration, create: () => model };
}
