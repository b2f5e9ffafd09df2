/**
 * Config spaces for tests of the decoder: random registers under every capability, and flipped bits
 * in real ones.
 */
import fc from 'fast-check';
import { CapId, ExtCapId } from '../../src/abi/pci.ts';
import { walkCapabilities, walkExtendedCapabilities } from '../../src/pci/capabilities/walk.ts';

const portTypes = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11];
const body = (size: number) => fc.uint8Array({ minLength: size, maxLength: size });
const cxl = 0x1e98;
const kinds = ['endpoint', 'bridge', 'cardbus'] as const;
/** A device with registers full of random bits. */
export const randomDevice = fc
  .record({
    header: body(0x3c),
    kind: fc.constantFrom(...kinds),
    vendor: fc.constantFrom(0x1af4, 0x8086, 0x1234),
    standard: fc.array(fc.tuple(fc.integer({ min: 0, max: 0x16 }), body(0x28)), { maxLength: 2 }),
    express: fc.tuple(fc.constantFrom(...portTypes), fc.constantFrom(1, 2), body(0x40)),
    extended: fc.array(fc.tuple(fc.integer({ min: 1, max: 0x38 }), body(0x80), fc.constantFrom(1, 2)), { maxLength: 3 }),
    dvsec: fc.tuple(fc.nat(11), fc.nat(3), fc.constantFrom(0x0c, 0x10, 0x14, 0x20, 0x28, 0x38, 0x3c, 0x40)),
  })
  .map(({ header, kind, vendor, standard: some, express, extended: more, dvsec }) => {
    const bytes = new Uint8Array(4096);
    const view = new DataView(bytes.buffer);
    const bridge = kind === 'bridge';
    bytes.set(header, 4);
    view.setUint16(0, vendor, true);
    view.setUint16(2, 0x1041, true);
    bytes[0x06] = bytes[0x06]! | 0x10;
    bytes[0x0e] = kinds.indexOf(kind);
    bytes[0x3d] = bytes[0x3d]! % 6;
    if (bridge) view.setUint16(0x0a, 0x0604, true);
    if (kind === 'cardbus') view.setUint16(0x0a, 0x0607, true);
    // lspci -F prints the upper half of an address as a region of its own; only -vvv shows which
    // one it is.
    for (let i = 0; i < { endpoint: 6, bridge: 2, cardbus: 0 }[kind]; i++) {
      if ((bytes[0x10 + 4 * i]! & 7) === 4) view.setUint32(0x10 + 4 * ++i, 0);
    }
    // Windows of CardBus are pages: their low bits read zero.
    if (kind === 'cardbus') for (let i = 0x1c; i < 0x2c; i += 4) view.setUint16(i, view.getUint16(i, true) & 0xf000, true);
    let at = kind === 'cardbus' ? 0x48 : 0x40;
    bytes[kind === 'cardbus' ? 0x14 : 0x34] = at;
    for (const [id, registers] of some) {
      bytes.set(registers, at);
      // For PCI-X of a CardBus bridge, which does not exist, lspci prints half a line.
      const other = id === CapId.EXP || (id === CapId.PCIX && kind === 'cardbus');
      bytes.set([other ? CapId.PM : id, at + 0x28], at);
      at += 0x28;
    }
    bytes.set(express[2], at);
    bytes.set([CapId.EXP, 0, (express[0] << 4) | express[1]], at);
    let from = 0x100;
    more.forEach(([id, registers, version], i) => {
      bytes.set(registers, from);
      if (id === ExtCapId.DVSEC) {
        view.setUint32(from + 4, (cxl | (dvsec[1] << 16) | (dvsec[2] << 20)) >>> 0, true);
        view.setUint16(from + 8, dvsec[0], true);
      }
      if (id === ExtCapId.MRBL) view.setUint16(from + 4, 8 + 8 * (registers[4]! % 8), true);
      // Hundreds of entries test no more than a few.
      if (id === ExtCapId.IDE) bytes[from + 6] = bytes[from + 6]! & 3;
      if (id === ExtCapId.RCLD) bytes[from + 5] = bytes[from + 5]! & 7;
      view.setUint32(from, (id | (version << 16) | ((i + 1 < more.length ? from + 0x80 : 0) << 20)) >>> 0, true);
      from += 0x80;
    });
    if (more.length === 0) view.setUint32(0x100, 0);
    return bytes;
  });

/**
 * Flips bits in the bodies of capabilities: not in headers, whose pointers lspci follows into the
 * header.
 */
export function mutate(bytes: Uint8Array, flips: readonly (readonly [number, number])[]): Uint8Array {
  const bodies = [
    ...walkCapabilities(bytes).steps.map(({ offset }, _, all) => [offset + 2, nextAfter(offset, all, 0x100)]),
    ...walkExtendedCapabilities(bytes).steps.map(({ offset }, _, all) => [offset + 4, nextAfter(offset, all, 0x1000)]),
  ];
  const mutant = bytes.slice();
  if (bodies.length === 0) return mutant;
  for (const [place, bit] of flips) {
    const [start, end] = bodies[place % bodies.length]!;
    const at = start! + (Math.floor(place / bodies.length) % Math.max(1, Math.min(end! - start!, 0x60)));
    if (at < mutant.length) mutant[at] = mutant[at]! ^ (1 << bit);
  }
  return mutant;
}

function nextAfter(offset: number, all: readonly { readonly offset: number }[], end: number): number {
  return Math.min(end, ...all.map((step) => step.offset).filter((other) => other > offset));
}
