/**
 * `device({ … })` key by key: a key that does not exist, or a value of the wrong kind, is an error
 * instead of a device that lacks something.
 */
import { bytes, type Check, callable, either, flag, integer, keys, listOf, made, mapOf, oneOf, text } from '../../base/declared.ts';
import { VfioError } from '../../base/errno.ts';
import type { PmOptions } from '../../pci/capabilities.ts';
import { parseClass } from '../../pci/class-codes.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { MemoryBar, RegisterBar } from './bar.ts';
import { type CommandsSpec, commandFieldTypes } from './commands.ts';
import { ConfigRegisters } from './config-registers.ts';
import type { Bars, DeviceMigration, DeviceSpec, MsixPlacement, RegionSpec } from './device-spec.ts';
import type { Outputs } from './instance.ts';

type AnySpec = DeviceSpec<Bars, unknown, unknown, Outputs, unknown, CommandsSpec>;

const bar = made([RegisterBar, MemoryBar], "what bar('4K', { … }) or memory('1M') gives");
const capabilities = listOf((value, what) => mapOf(() => {})(value, what));

const msix = {
  vectors: integer(1, 2048),
  bar: integer(0, 5),
  tableOffset: integer(0, 2 ** 32 - 1),
  pbaOffset: integer(0, 2 ** 32 - 1),
} satisfies Record<keyof MsixPlacement, Check>;

const region = {
  type: integer(0, 2 ** 32 - 1),
  subtype: integer(0, 2 ** 32 - 1),
  // Read where it is parsed.
  size: () => {},
  read: callable,
  write: callable,
} satisfies Record<keyof RegionSpec<never>, Check>;

const migration = {
  version: integer(0, 2 ** 32 - 1),
  save: callable,
  load: callable,
} satisfies Record<keyof DeviceMigration<never>, Check>;

/** The builder of a capability checks its values. */
const any: Check = () => {};
/** Of a part of the device that is a model itself. */
const model: Check = (value, what) => {
  mapOf(any)(value, what);
  for (const key of ['declaration', 'create'] as const satisfies readonly (keyof DeviceModel)[]) {
    if ((value as Partial<DeviceModel>)[key] === undefined) {
      throw new VfioError('EINVAL', `${what} lacks '${key}'`, { fix: 'It is a model: what another device({ … }) gives.' });
    }
  }
};
const pm = {
  at: any,
  version: any,
  noSoftReset: flag,
  d1: flag,
  d2: flag,
  pme: any,
  pmeClock: flag,
  dsi: flag,
  immediateReadiness: flag,
  auxCurrentMa: any,
} satisfies Record<keyof PmOptions, Check>;

const checks = {
  id: text,
  subsystem: text,
  name: text,
  revision: integer(0, 0xff),
  class: (value, what) => void parseClass(value, what),
  msi: either(keys({ vectors: integer(1, 32), is64: flag, maskable: flag }, ['vectors']), integer(1, 32)),
  msix: either(keys(msix, ['vectors']), integer(1, 2048)),
  intx: oneOf('A', 'B', 'C', 'D'),
  pcie: either(keys({ flr: flag }, ['flr']), flag),
  busMaster: oneOf('always'),
  pm: either(keys(pm), flag),
  interruptDisable: flag,
  capabilities,
  extendedCapabilities: capabilities,
  rom: bytes,
  sriov: keys({ totalVfs: integer(1, 0xffff), vf: model, firstOffset: integer(1, 0xffff), stride: integer(1, 0xffff) }, ['totalVfs', 'vf']),
  bars: keys({ bar0: bar, bar1: bar, bar2: bar, bar3: bar, bar4: bar, bar5: bar } satisfies Record<keyof Bars, Check>),
  config: made([ConfigRegisters], 'what configRegisters({ … }) gives'),
  regions: listOf(keys(region, ['type', 'subtype', 'size'])),
  state: callable,
  on: mapOf(either(keys({ serial: callable }, ['serial']), callable)),
  read: mapOf(callable),
  timers: mapOf(callable),
  inputs: mapOf(callable),
  outputs: mapOf(callable),
  commands: mapOf(mapOf(oneOf(...commandFieldTypes))),
  migration: either(keys(migration), oneOf(true)),
} satisfies Record<keyof AnySpec, Check>;

const checkAll = keys(checks, ['id']);

/** @throws VfioError EINVAL naming the key */
export function checkSpec(spec: unknown): void {
  checkAll(spec, 'device()');
}
