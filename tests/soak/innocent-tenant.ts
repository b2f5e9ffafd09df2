/** A guest that means well: numbered frames to its friend, and memory that no device may change. */

import { VfReg } from '../../src/abi/82576.ts';
import { RxStatus } from '../../src/abi/82576-descriptors.ts';
import type { DirectMemory } from '../../src/abi/memory.ts';
import { macBytes, macText } from '../../src/drivers/82576/mac-address.ts';
import type { VirtualPort } from '../../src/drivers/82576/virtual-port.ts';
import { OWN_IOVA } from './hostile-tenant.ts';
import type { Random } from './random.ts';

/** A local experimental type (IEEE 802). */
const TYPE = [0x88, 0xb5];
const SECRET_AT = 14;
const SECRET_BYTES = 16;
const NUMBER_AT = SECRET_AT + SECRET_BYTES;
const LENGTH_AT = NUMBER_AT + 4;
const FILL_AT = LENGTH_AT + 2;
const STILL_BYTE = 0x5a;
const STILL_BYTES = 0x2_0000;
/** Driver memory ends far below; hostile ones aim there, too. */
const STILL_IOVA = BigInt(OWN_IOVA) * 0x20n;

export class InnocentTenant {
  sent = 0;
  /** Frames of the friend, whole. */
  found = 0;
  /** Frames of others, which the switch may deliver. */
  foreign = 0;
  /** Frames that its queue had no room for (RQDPC), of the friend and of others. */
  dropped = 0;
  readonly port: VirtualPort;
  readonly #secret: Uint8Array;
  readonly #still: DirectMemory;
  #next = 0;

  /** @param secret 16 bytes that a frame of the innocent has, and nothing else */
  constructor(port: VirtualPort, secret: Uint8Array) {
    this.port = port;
    this.#secret = secret;
    this.#still = port.dev.device.dma.allocate(STILL_BYTES);
    this.#still.windows[0]!.fill(STILL_BYTE);
    port.dev.device.dma.map({ iova: STILL_IOVA, memory: this.#still });
  }

  send(to: InnocentTenant, frames: number, random: Random): void {
    const queue = this.port.transmitQueue();
    queue.reclaim();
    for (let i = 0; i < frames; i++) {
      const length = 60 + random.below(1400);
      const at = queue.reserve(length);
      if (at < 0) break;
      const frame = queue.bytes.subarray(at, at + length);
      frame.set(macBytes(to.port.mac), 0);
      frame.set(macBytes(this.port.mac), 6);
      frame.set(TYPE, 12);
      frame.set(this.#secret, SECRET_AT);
      const view = new DataView(frame.buffer, frame.byteOffset, length);
      view.setUint32(NUMBER_AT, this.sent);
      view.setUint16(LENGTH_AT, length);
      frame.fill(this.sent, FILL_AT);
      queue.commit(length);
      this.sent++;
    }
    queue.ring();
  }

  /** Frames of the friend come in order and whole, and no function speaks in its name. */
  take(friend: InnocentTenant): void {
    const queue = this.port.receiveQueue();
    const arrived = queue.poll();
    for (let i = 0; i < arrived; i++) {
      const at = queue.offsetOf(i);
      const frame = queue.bytes.subarray(at, at + queue.lengthOf(i));
      const looped = (queue.statusOf(i) & RxStatus.LB) !== 0;
      const named = macText(frame.subarray(6, 12)) === friend.port.mac;
      if (this.#secret.every((byte, k) => frame[SECRET_AT + k] === byte)) this.#check(frame);
      else if (looped && named)
        throw new Error(`${this.port.dev.name} got a frame of another function in the name of ${friend.port.dev.name}`);
      else this.foreign++;
    }
    queue.release(arrived);
    this.dropped += this.port.dev.device.region(0).read32(VfReg.RQDPC) & 0xfff;
  }

  get idle(): boolean {
    const queue = this.port.transmitQueue();
    queue.reclaim();
    return queue.inFlight === 0;
  }

  checkMemory(): void {
    if (!this.#still.windows[0]!.every((byte) => byte === STILL_BYTE)) throw new Error(`memory of ${this.port.dev.name} has changed`);
  }

  #check(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const number = view.getUint32(NUMBER_AT);
    const length = view.getUint16(LENGTH_AT);
    if (number < this.#next || length !== frame.length) {
      throw new Error(`${this.port.dev.name} got frame ${number} of ${length} bytes with ${frame.length}, and waits for ${this.#next}`);
    }
    if (!frame.subarray(FILL_AT).every((byte) => byte === (number & 0xff))) throw new Error(`frame ${number} is not whole`);
    this.#next = number + 1;
    this.found++;
  }
}
