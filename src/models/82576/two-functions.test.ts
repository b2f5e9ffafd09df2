/** Two virtual functions that exchange frames by the card's switch, each with memory of its own. */
import { describe, expect, it } from 'vitest';
import { BROADCAST, ethernet, macOf } from '../../../tests/kit/82576/frames.ts';
import { Ctrl, Dtxswc, Mrqc, Rctl, Reg, ralOf, Srrctl, Tctl, VfReg, Vmolr, VtCtl, Xdctl } from '../../abi/82576.ts';
import { RxRead, RxStatus, RxWriteBack, TxCommand, TxData, TxStatus } from '../../abi/82576-descriptors.ts';
import { Stat } from '../../abi/82576-statistics.ts';
import type { Model } from '../../abi/device-host.ts';
import type { Wire, WireEnd, WirePort } from '../../abi/wire.ts';
import { TestHost } from '../kit/test-host.ts';
import { intel82576 } from './82576.ts';

const RX_RING = 0x000;
const TX_RING = 0x400;
const RX_BUFFERS = 0x1000;
const TX_BUFFER = 0x8000;
const ENTRIES = 16;
const BUFFER = 1024;

/** The partner of the port: a list of frames. */
class Partner implements Wire, WireEnd {
  readonly name = 'partner';
  readonly counters = { sent: 0, sentBytes: 0, copied: 0, received: 0, receivedBytes: 0, waiting: 0, lost: {}, missed: {} };
  readonly up = true;
  readonly ready = true;
  readonly frames: Uint8Array[] = [];
  port!: WirePort;

  plug(port: WirePort): WireEnd {
    this.port = port;
    return this;
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    this.frames.push(bytes.slice(offset, offset + length));
  }

  setLink(): void {}

  [Symbol.dispose](): void {}
}

/** A VF with its driver: queue 0, in memory that no other function reaches. */
class Tenant {
  readonly host = new TestHost({ mode: 'msix', vectors: 3 });
  readonly model: Model;
  readonly address: string;
  readonly #view: DataView;
  readonly #base = 0x10_0000;
  #sent = 0;
  #read = 0;

  readonly index: number;

  constructor(pf: Model, create: (host: TestHost, pf: Model) => Model, index: number) {
    this.index = index;
    this.model = create(this.host, pf);
    this.address = `02:00:00:00:02:0${index}`;
    this.#view = new DataView(this.host.memory.buffer, this.host.memory.byteOffset);
  }

  write(offset: number, value: number): void {
    this.model.write(0, offset, 4, value);
  }

  read(offset: number): number {
    return this.model.read(0, offset, 4);
  }

  start(): void {
    this.#sent = 0;
    this.#read = 0;
    this.host.memory.fill(0);
    for (let i = 0; i < ENTRIES; i++) this.#view.setUint32(RX_RING + i * 16 + RxRead.packet, this.#base + RX_BUFFERS + i * BUFFER, true);
    this.write(VfReg.RDBAL, this.#base + RX_RING);
    this.write(VfReg.RDLEN, ENTRIES * 16);
    this.write(VfReg.SRRCTL, Srrctl.ADV_ONE_BUFFER | 1);
    this.write(VfReg.RXDCTL, Xdctl.ENABLE);
    this.write(VfReg.RDT, ENTRIES - 1);
    this.write(VfReg.TDBAL, this.#base + TX_RING);
    this.write(VfReg.TDLEN, ENTRIES * 16);
    this.write(VfReg.TXDCTL, Xdctl.ENABLE);
  }

  send(frame: Uint8Array): void {
    const slot = this.#sent++ % ENTRIES;
    this.host.memory.set(frame, TX_BUFFER + slot * BUFFER);
    const at = TX_RING + slot * 16;
    this.#view.setUint32(at + TxData.address, this.#base + TX_BUFFER + slot * BUFFER, true);
    this.#view.setUint32(at + TxData.address + 4, 0, true);
    const command = frame.length | TxCommand.DTYP_DATA | TxCommand.DEXT | TxCommand.EOP | TxCommand.IFCS | TxCommand.RS;
    this.#view.setUint32(at + TxData.command, command, true);
    this.#view.setUint32(at + TxData.status, frame.length << TxStatus.PAYLEN_SHIFT, true);
    this.write(VfReg.TDT, this.#sent % ENTRIES);
  }

  /** Frames that have come since the last call; their descriptors are given back. */
  received(): { data: Uint8Array; looped: boolean }[] {
    const frames: { data: Uint8Array; looped: boolean }[] = [];
    for (;;) {
      const slot = this.#read % ENTRIES;
      const at = RX_RING + slot * 16;
      const status = this.#view.getUint32(at + RxWriteBack.statusErrors, true);
      if ((status & RxStatus.DD) === 0) return frames;
      const buffer = RX_BUFFERS + slot * BUFFER;
      const data = this.host.memory.slice(buffer, buffer + this.#view.getUint16(at + RxWriteBack.length, true));
      frames.push({ data, looped: (status & RxStatus.LB) !== 0 });
      this.#view.setUint32(at + RxRead.packet, this.#base + buffer, true);
      this.#view.setUint32(at + RxRead.packet + 4, 0, true);
      this.#view.setUint32(at + RxRead.header, 0, true);
      this.#view.setUint32(at + RxRead.header + 4, 0, true);
      this.#read++;
      this.write(VfReg.RDT, slot);
    }
  }
}

/** A card whose PF has two VFs in the switch, with checks of their addresses; the link is up. */
async function rig() {
  const wire = new Partner();
  const host = new TestHost({ mode: 'msix', vectors: 10 });
  const declared = intel82576({ mac: '52:54:00:12:34:56', wire });
  const pf = declared.create(host);
  const write = (offset: number, value: number): void => pf.write(0, offset, 4, value);
  const read = (offset: number): number => pf.read(0, offset, 4);
  const tenants = [0, 1].map((index) => new Tenant(pf, (side, physical) => declared.sriov!.vf.create(side, index, physical), index));
  write(Reg.CTRL, Ctrl.SLU | Ctrl.FD);
  wire.port.carrierChanged();
  await host.advance(10_000);
  write(Reg.RCTL, Rctl.RXEN | Rctl.BAM | Rctl.SECRC);
  write(Reg.TCTL, Tctl.EN | Tctl.PSP);
  write(Reg.MRQC, Mrqc.VMDQ);
  write(Reg.VT_CTL, (VtCtl.RPL_EN | VtCtl.DIS_DEF_POOL) >>> 0);
  write(Reg.DTXSWC, (Dtxswc.LOOPBACK_EN | 3) >>> 0);
  for (const { address, index } of tenants) {
    const mac = macOf(address);
    write(ralOf(index + 1), (mac[0]! | (mac[1]! << 8) | (mac[2]! << 16) | (mac[3]! << 24)) >>> 0);
    write(ralOf(index + 1) + 4, (mac[4]! | (mac[5]! << 8) | (1 << (18 + index)) | 0x8000_0000) >>> 0);
    write(Reg.VMOLR + index * 4, (Vmolr.BAM | Vmolr.AUPE | Vmolr.STRCRC | 0x2600) >>> 0);
  }
  write(Reg.VFRE, 3);
  write(Reg.VFTE, 3);
  for (const tenant of tenants) tenant.start();
  return { wire, host, pf, write, read, tenants: tenants as [Tenant, Tenant] };
}

const hello = (to: string, from: string, text = 1): Uint8Array => ethernet(to, from, 0x88b5, Array<number>(100).fill(text));

describe('7.10.3: two functions on one card', () => {
  it('exchange frames past the wire, each in memory of its own', async () => {
    const { wire, host, tenants, read } = await rig();
    const [a, b] = tenants;
    const elsewhere = a.host.memory.slice(RX_BUFFERS, TX_BUFFER);
    for (let i = 0; i < 40; i++) {
      a.send(hello(b.address, a.address, i));
      await host.advance(1);
      expect(b.received()).toEqual([{ data: hello(b.address, a.address, i), looped: true }]);
      b.send(hello(a.address, b.address, i + 1));
      await host.advance(1);
      expect(a.received().map(({ data }) => data)).toEqual([hello(a.address, b.address, i + 1)]);
    }
    expect(wire.frames).toEqual([]);
    expect([a.read(VfReg.VFGPTLBC), a.read(VfReg.VFGPRLBC), b.read(VfReg.VFGORLBC)]).toEqual([40, 40, 40 * 118]);
    expect([read(Stat.GPTC), read(Stat.GPRC)]).toEqual([0, 0]);
    expect(host.memory.every((byte) => byte === 0)).toBe(true);
    expect(elsewhere.every((byte) => byte === 0)).toBe(true);
  });

  it('share the wire: broadcasts go to both and out, others by their address', async () => {
    const { wire, host, tenants } = await rig();
    const [a, b] = tenants;
    a.send(hello(BROADCAST, a.address));
    a.send(hello('02:00:00:00:00:99', a.address));
    await host.advance(1);
    expect(wire.frames.map(({ length }) => length)).toEqual([114, 114]);
    expect(b.received()).toHaveLength(1);
    expect(a.received()).toEqual([]);
    const reply = hello(a.address, '02:00:00:00:00:99');
    wire.port.receive(reply, 0, reply.length);
    expect(a.received()).toEqual([{ data: reply, looped: false }]);
    expect(b.received()).toEqual([]);
  });

  it('cannot lie about their address: the frame is dropped, and the PF knows the queue', async () => {
    const { wire, host, tenants, read } = await rig();
    const [a, b] = tenants;
    a.send(hello(BROADCAST, b.address));
    a.send(hello(b.address, a.address));
    await host.advance(1);
    expect(wire.frames).toEqual([]);
    expect(b.received()).toHaveLength(1);
    expect([read(Stat.SSVPC), read(Reg.WVBR)]).toEqual([1, 1]);
  });

  it('keep apart: a ring of one that points at the memory of the other reaches its own (7.10.2)', async () => {
    const { host, tenants } = await rig();
    const [a, b] = tenants;
    // The addresses of both are the same numbers; behind them is each function's own memory.
    const before = a.host.memory.slice();
    a.send(hello(b.address, a.address, 7));
    await host.advance(1);
    expect(b.host.memory.subarray(RX_BUFFERS, RX_BUFFERS + 14)).toEqual(hello(b.address, a.address).subarray(0, 14));
    expect(a.host.memory.subarray(RX_BUFFERS, TX_BUFFER)).toEqual(before.subarray(RX_BUFFERS, TX_BUFFER));
    // A ring that points nowhere hurts its owner alone.
    b.write(VfReg.RDBAL, 0x7000_0000);
    b.write(VfReg.TDBAL, 0x7000_0000);
    b.write(VfReg.TDT, 5);
    a.send(hello(b.address, a.address, 8));
    a.send(hello('02:00:00:00:00:99', a.address, 9));
    await host.advance(10);
    expect(a.read(VfReg.TDH)).toBe(3);
  });

  it('that has no descriptors does not hold up the other, whose frames go on', async () => {
    const { wire, host, tenants } = await rig();
    const [a, b] = tenants;
    a.write(VfReg.RXDCTL, 0);
    for (let i = 0; i < 60; i++) {
      const frame = hello(a.address, '02:00:00:00:00:99', i);
      wire.port.receive(frame, 0, frame.length);
      b.send(hello(a.address, b.address, i));
      const other = hello(b.address, '02:00:00:00:00:99', i);
      wire.port.receive(other, 0, other.length);
      await host.advance(1);
      expect(b.received()).toHaveLength(1);
    }
  });

  it('go one by one while they work: by VTCTRL.RST, by the PF’s VFTE, and for good', async () => {
    const { wire, host, tenants, write, read } = await rig();
    const [a, b] = tenants;
    write(Reg.VFTE, 2);
    a.send(hello(b.address, a.address));
    await host.advance(1);
    expect(b.received()).toEqual([]);
    // The frame waits until the PF lets the function transmit.
    write(Reg.VFTE, 3);
    await host.advance(1);
    expect(b.received()).toHaveLength(1);
    write(Reg.VFRE, 1);
    a.send(hello(b.address, a.address));
    await host.advance(1);
    expect(b.received()).toEqual([]);
    write(Reg.VFRE, 3);

    b.write(VfReg.VTCTRL, Ctrl.RST);
    a.send(hello(b.address, a.address));
    await host.advance(1);
    expect([read(Reg.VFLRE) & 2, b.read(VfReg.RXDCTL) & Xdctl.ENABLE]).toEqual([2, 0]);
    write(Reg.VFRE, 3);
    write(Reg.VFTE, 3);
    b.start();
    a.send(hello(b.address, a.address, 77));
    await host.advance(1);
    expect(b.received().map(({ data }) => data)).toEqual([hello(b.address, a.address, 77)]);

    for (let i = 0; i < 3; i++) a.send(hello(b.address, a.address, i));
    b.model.dispose!();
    const memory = b.host.memory.slice();
    a.send(hello(b.address, a.address));
    a.send(hello('02:00:00:00:00:99', a.address));
    await host.advance(100);
    expect(b.host.memory).toEqual(memory);
    expect(wire.frames).toHaveLength(1);
  });
});
