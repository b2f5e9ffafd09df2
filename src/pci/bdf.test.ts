import fc from 'fast-check';
import { expect, it } from 'vitest';
import { VfioError } from '../base/errno.ts';
import { bdfParts, compareBdf, formatBdf, parseBdf } from './bdf.ts';

it('S3-01 a BDF is spelled in one way: lower case, with its domain', () => {
  expect(parseBdf('0000:00:04.0')).toBe('0000:00:04.0');
  expect(parseBdf('00:04.0')).toBe('0000:00:04.0');
  expect(parseBdf('0001:AB:1F.7')).toBe('0001:ab:1f.7');
  expect(parseBdf('10000:e1:00.0')).toBe('10000:e1:00.0');
});

it('splits a BDF into its numbers', () => {
  expect(bdfParts('0002:81:1f.7')).toEqual({ domain: 2, bus: 0x81, device: 31, fn: 7 });
});

it('refuses text that is no BDF with EINVAL', () => {
  for (const bad of [
    '',
    '00:20.0',
    '00:04.8',
    '4.0',
    '0000:00:04',
    ' 00:04.0',
    '00:04.0 ',
    '00:04.0\n',
    'x'.repeat(100_000),
    '000:00:04.0',
  ]) {
    expect(() => parseBdf(bad), bad.slice(0, 20)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
  for (const bad of [undefined, null, 4, {}, ['00:04.0']]) {
    expect(() => parseBdf(bad as never)).toThrow(VfioError);
  }
  for (const bad of [
    { domain: -1, bus: 0, device: 0, fn: 0 },
    { domain: 0, bus: 256, device: 0, fn: 0 },
    { domain: 0, bus: 0, device: 32, fn: 0 },
    { domain: 0, bus: 0, device: 0, fn: Number.NaN },
  ]) {
    expect(() => formatBdf(bad)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
});

it('parseBdf reads every BDF that formatBdf writes', () => {
  fc.assert(
    fc.property(fc.nat(0xffff_ffff), fc.nat(255), fc.nat(31), fc.nat(7), (domain, bus, device, fn) => {
      expect(bdfParts(formatBdf({ domain, bus, device, fn }))).toEqual({ domain, bus, device, fn });
    }),
  );
});

it('sorts in the order of bus enumeration', () => {
  expect(['0000:02:00.0', '0001:00:00.0', '0000:00:1f.2', '0000:00:04.1', '0000:00:04.0'].sort(compareBdf)).toEqual([
    '0000:00:04.0',
    '0000:00:04.1',
    '0000:00:1f.2',
    '0000:02:00.0',
    '0001:00:00.0',
  ]);
});
