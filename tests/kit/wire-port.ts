/** A port without a card: it keeps the frames that arrive, and can answer them. */
import type { Wire, WireEnd, WirePort } from '../../src/abi/wire.ts';

export class TestPort implements WirePort {
  /** Frames that have arrived, as text of their payload: all from byte 14 on. */
  readonly arrived: string[] = [];
  carrierChanges = 0;
  readyAgains = 0;
  /** Called within `receive`. */
  onReceive: ((text: string) => void) | null = null;
  readonly end: WireEnd;
  readonly #address: string;

  /** Plugs itself in, with its link on. @param address the last digits of its own */
  constructor(wire: Wire, address = '01') {
    this.#address = address;
    this.end = wire.plug(this);
    this.end.setLink(true);
  }

  receive(bytes: Uint8Array, offset: number, length: number): void {
    const text = Buffer.from(bytes.subarray(offset + 14, offset + length)).toString();
    this.arrived.push(text);
    this.onReceive?.(text);
  }

  carrierChanged(): void {
    this.carrierChanges++;
  }

  readyAgain(): void {
    this.readyAgains++;
  }

  /** Sends a frame to the address that ends with `to`; 'ff': to all. */
  send(to: string, text: string): void {
    const frame = frameOf(to, this.#address, text);
    this.end.send(frame, 0, frame.length);
  }
}

/** Addresses 02:00:00:00:00:NN; 'ff' is broadcast. The type is one for experiments (IEEE 802). */
export function frameOf(to: string, from: string, text: string): Uint8Array {
  const address = (last: string) => Buffer.from(last === 'ff' ? 'ffffffffffff' : `0200000000${last}`, 'hex');
  return new Uint8Array(Buffer.concat([address(to), address(from), Buffer.from('88b5', 'hex'), Buffer.from(text)]));
}
