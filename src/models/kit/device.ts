/**
 * A PCI device as one declaration: ids, BARs, interrupts, and the effect of writing a register.
 *
 *     const Card = registers({ ident: u32(0x00, 'ro'), go: u32(0x08) });
 *
 *     export default device({
 *       id: '1234:11e8',
 *       msi: 1,
 *       bars: { bar0: bar('4K', Card, { ident: { reset: 1 } }) },
 *       on: {
 *         async 'bar0.go'(dev, value) {
 *           await dev.sleep(1);            // registers keep answering meanwhile
 *           dev.irq.trigger(0);
 *         },
 *       },
 *     });
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { checkSpec } from './check-spec.ts';
import type { CommandsSpec } from './commands.ts';
import type { ConfigRegisters } from './config-registers.ts';
import { makeDeclaration } from './declaration.ts';
import type { Bars, DeviceSpec, RegionSpec } from './device-spec.ts';
import type { Instance, Outputs } from './instance.ts';
import { compileKind } from './kind.ts';
import { KitModel } from './model.ts';

/** A kind of device that `device()` declared. */
export interface KitDevice<I = unknown, O = unknown> extends DeviceModel {
  /** One device of this kind, on a host. */
  create(host: DeviceHost): Instance<I, O>;
}

/**
 * Declare a device.
 *
 * @typeParam B its BARs
 * @typeParam S the value of `state()`
 * @typeParam C its `config`
 * @typeParam O its `outputs`
 * @typeParam I parameters of its `inputs`
 * @typeParam K its `commands`
 * @throws VfioError EINVAL for a declaration that cannot be: keys that do not exist, values of the
 * wrong kind, registers that overlap, a handler of a register that is not there
 */
export function device<
  // biome-ignore lint/complexity/noBannedTypes: a device without BARs
  const B extends Bars = {},
  S = undefined,
  const C extends ConfigRegisters | undefined = undefined,
  // biome-ignore lint/complexity/noBannedTypes: a device without outputs
  O extends Outputs = {},
  // biome-ignore lint/complexity/noBannedTypes: a device without inputs
  I = {},
  // biome-ignore lint/complexity/noBannedTypes: a device without commands
  const K extends CommandsSpec = {},
>(spec: DeviceSpec<B, S, C, O, I, K>): KitDevice<I, O> {
  checkSpec(spec);
  const { bar0, bar1, bar2, bar3, bar4, bar5 } = (spec.bars ?? {}) as Bars;
  const bars = [bar0, bar1, bar2, bar3, bar4, bar5];
  const regions = (spec.regions ?? []) as readonly RegionSpec<never>[];
  const declaration = makeDeclaration(spec, bars, regions, spec.config);
  const kind = compileKind(declaration.name, bars, spec);
  return {
    declaration,
    create: (host: DeviceHost) => new KitModel(kind, host) as unknown as Instance<I, O>,
    ...(spec.sriov === undefined ? {} : { sriov: spec.sriov }),
  };
}
