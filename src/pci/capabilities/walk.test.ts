import fc from 'fast-check';
import { expect, it } from 'vitest';
import { nvmeDeclaration } from '../../../tests/kit/declarations.ts';
import { CapId, Config, Status } from '../../abi/pci.ts';
import { ConfigSpace } from '../config-space.ts';
import { MAX_CAPABILITIES, MAX_EXTENDED_CAPABILITIES, walkCapabilities, walkExtendedCapabilities } from './walk.ts';

function blank(size: 256 | 4096 = 256): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes[Config.STATUS] = Status.CAP_LIST;
  return bytes;
}

function link(bytes: Uint8Array, at: number, id: number, next: number): void {
  bytes[at] = id;
  bytes[at + 1] = next;
}

function linkExtended(bytes: Uint8Array, at: number, id: number, next: number): void {
  new DataView(bytes.buffer).setUint32(at, (id | (1 << 16) | (next << 20)) >>> 0, true);
}

it('S2-45 a walk gives the chain in its order', () => {
  const config = new ConfigSpace(nvmeDeclaration);
  expect(walkCapabilities(config.bytes).steps.map((s) => [s.id, s.offset, s.next])).toEqual([
    [CapId.MSIX, 0x40, 0x80],
    [CapId.EXP, 0x80, 0x60],
    [CapId.PM, 0x60, 0],
  ]);
  expect(walkExtendedCapabilities(config.bytes).steps.map((s) => [s.id, s.offset, s.next, s.version])).toEqual([
    [0x0e, 0x100, 0x120, 1],
    [0x10, 0x120, 0, 1],
  ]);
});

it('S2-45 the bounds are 48 and 960 hops', () => {
  expect([MAX_CAPABILITIES, MAX_EXTENDED_CAPABILITIES]).toEqual([48, 960]);
  const bytes = blank(4096);
  bytes[Config.CAPABILITY_LIST] = 0x40;
  for (let at = 0x40; at < 0x100; at += 4) link(bytes, at, CapId.VNDR, at + 4 < 0x100 ? at + 4 : 0);
  expect(walkCapabilities(bytes)).toMatchObject({ steps: { length: 48 }, warnings: [] });
  for (let at = 0x100; at < 0x1000; at += 4) linkExtended(bytes, at, 0x0b, at + 4 < 0x1000 ? at + 4 : 0);
  expect(walkExtendedCapabilities(bytes)).toMatchObject({ steps: { length: 960 }, warnings: [] });
});

it('S2-45 a looped chain ends with a warning', () => {
  const bytes = blank(4096);
  bytes[Config.CAPABILITY_LIST] = 0x40;
  link(bytes, 0x40, CapId.PM, 0x50);
  link(bytes, 0x50, CapId.MSI, 0x40);
  const walk = walkCapabilities(bytes);
  expect(walk.steps.map((s) => s.offset)).toEqual([0x40, 0x50]);
  expect(walk.warnings).toEqual([expect.stringMatching(/loops back to 0x40 after 2/)]);
  linkExtended(bytes, 0x100, 1, 0x100);
  expect(walkExtendedCapabilities(bytes)).toMatchObject({ steps: { length: 1 }, warnings: [expect.stringMatching(/loops back to 0x100/)] });
});

it('S2-45 pointers into the header or to nothing end the walk with a warning', () => {
  const bytes = blank(4096);
  bytes[Config.CAPABILITY_LIST] = 0x10;
  expect(walkCapabilities(bytes)).toEqual({ steps: [], warnings: [expect.stringMatching(/into the header/)] });
  bytes[Config.CAPABILITY_LIST] = 0x40;
  link(bytes, 0x40, CapId.PM, 0x80);
  bytes[0x80] = 0xff;
  expect(walkCapabilities(bytes)).toMatchObject({ steps: [{ id: CapId.PM }], warnings: [expect.stringMatching(/all ones/)] });
  linkExtended(bytes, 0x100, 1, 0x80);
  expect(walkExtendedCapabilities(bytes)).toMatchObject({ steps: { length: 1 }, warnings: [expect.stringMatching(/below 0x100/)] });
});

it('S2-45 there is nothing to walk without a list', () => {
  const bytes = new Uint8Array(256);
  bytes[Config.CAPABILITY_LIST] = 0x40;
  bytes[0x40] = CapId.PM;
  expect(walkCapabilities(bytes).steps).toEqual([]);
  expect(walkExtendedCapabilities(blank(256)).steps).toEqual([]);
  expect(walkExtendedCapabilities(blank(4096)).steps).toEqual([]);
  expect(walkExtendedCapabilities(new Uint8Array(4096).fill(0xff)).steps).toEqual([]);
  expect(walkCapabilities(new Uint8Array(0)).steps).toEqual([]);
});

it('S2-45 property: whatever a device says, a walk ends and visits no place twice', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 256, maxLength: 256 }), fc.uint8Array({ minLength: 64, maxLength: 64 }), (low, pattern) => {
      const bytes = new Uint8Array(4096);
      for (let at = 256; at < 4096; at++) bytes[at] = pattern[at % 64]!;
      bytes.set(low);
      bytes[Config.STATUS] = Status.CAP_LIST;
      for (const [walk, most, from, to] of [
        [walkCapabilities(bytes), MAX_CAPABILITIES, 0x40, 0x100],
        [walkExtendedCapabilities(bytes), MAX_EXTENDED_CAPABILITIES, 0x100, 0x1000],
      ] as const) {
        expect(walk.steps.length).toBeLessThanOrEqual(most);
        expect(new Set(walk.steps.map((s) => s.offset)).size).toBe(walk.steps.length);
        expect(walk.steps.every((s) => s.offset >= from && s.offset < to && s.offset % 4 === 0)).toBe(true);
      }
    }),
  );
});
