/** A card of its own on a test's host and wire: registers, EEPROM, PHY. */
import { Eerd, Mdic, Reg } from '../../../src/abi/82576.ts';
import type { Wire, WireCounters, WireEnd, WirePort } from '../../../src/abi/wire.ts';
import { intel82576 } from '../../../src/models/82576/82576.ts';
import type { PhysicalFunction } from '../../../src/models/82576/physical-function.ts';
import { TestHost, type TestHostOptions } from '../../../src/models/kit/test-host.ts';

/** A wire whose other end is the test. */
export class TestWire implements Wire, WireEnd {
  readonly name = 'test wire';
  readonly counters: WireCounters = { sent: 0, sentBytes: 0, copied: 0, received: 0, receivedBytes: 0, waiting: 0, lost: {}, missed: {} };
  port: WirePort | null = null;
  up = false;
  ready = true;
  /** The port's own link. */
  link = false;
  readonly sent: Uint8Array[] = [];

  plug(port: WirePort): WireEnd {
    this.port = port;
    return this;
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    this.sent.push(bytes.slice(offset, offset + length));
  }

  setLink(on: boolean): void {
    this.link = on;
  }

  /** The partner is there from now on, or gone. */
  carrier(up: boolean): void {
    this.up = up;
    this.port!.carrierChanged();
  }

  arrive(frame: Uint8Array): void {
    this.port!.receive(frame, 0, frame.length);
  }

  [Symbol.dispose](): void {
    this.port = null;
  }
}

export const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56] as const;

export class CardRig {
  readonly host: TestHost;
  readonly wire = new TestWire();
  readonly model: PhysicalFunction;

  constructor(options: TestHostOptions = {}) {
    this.host = new TestHost(options);
    const model = intel82576({ mac: '52:54:00:12:34:56', wire: this.wire });
    this.model = this.host.plug({ ...model, create: (host) => model.create(host) as PhysicalFunction });
  }

  read(offset: number): number {
    return this.model.read(0, offset, 4);
  }

  write(offset: number, value: number): void {
    this.model.write(0, offset, 4, value >>> 0);
  }

  /** A word of the EEPROM, by EERD. */
  word(address: number): number {
    this.write(Reg.EERD, (address << Eerd.ADDR_SHIFT) | Eerd.START);
    return this.read(Reg.EERD) >>> Eerd.DATA_SHIFT;
  }

  phy(register: number, value?: number): number {
    const op = value === undefined ? Mdic.OP_READ : Mdic.OP_WRITE;
    this.write(Reg.MDIC, (register << Mdic.REGADD_SHIFT) | (1 << Mdic.PHYADD_SHIFT) | op | (value ?? 0));
    return this.read(Reg.MDIC) & Mdic.DATA;
  }

  /** Messages and pin changes since the last call. */
  irqs(): string[] {
    return this.host.irqEvents.splice(0);
  }
}
