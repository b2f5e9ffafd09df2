import { expect, it } from 'vitest';
import { Pm } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import { type PmOptions, pm } from './power-management.ts';

const pmc = (options: PmOptions) => {
  const { bytes } = pm(options);
  return bytes[Pm.PMC]! | (bytes[Pm.PMC + 1]! << 8);
};

it.each([
  [{}, 0x0003],
  [{ version: 2 }, 0x0002],
  [{ dsi: true }, 0x0023],
  [{ d1: true, d2: true }, 0x0603],
  [{ pme: true }, 0x4803],
  [{ pme: ['D3cold'] }, 0x8003],
  [{ d1: true, pme: ['D0', 'D1', 'D3hot', 'D3cold'] }, 0xda03],
  [{ auxCurrentMa: 375 }, 0x01c3],
  [{ pmeClock: true, immediateReadiness: true }, 0x001b],
] as const)('every bit of PMC can be declared: %o is 0x%s', (options, expected) => {
  expect(pmc(options)).toBe(expected);
});

it.each([{ pme: ['D1'] }, { pme: ['D4'] }, { auxCurrentMa: 60 }, { version: 8 }])('%o is EINVAL', (options) => {
  expect(() => pm(options as PmOptions)).toThrow(VfioError);
});
