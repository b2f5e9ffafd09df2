/**
 * The state of a device from its first open to its last close, and its making: the function is
 * awake, without bus mastering, reset, its configuration saved, and has signalled nothing.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_enable()
 */
import { Command, Config } from '../../abi/pci.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { Failed } from '../../base/foreign.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { SavedConfig } from '../../pci/config-space.ts';
import type { EngineContext } from '../context.ts';
import { Interrupts } from '../interrupts/interrupts.ts';
import type { Mediation } from '../mediation/mediation.ts';
import { checkedModel } from '../migration/checked-model.ts';
import { DeviceMigration } from '../migration/device-migration.ts';
import { PciTarget } from '../migration/pci-target.ts';
import { hasBrokenIntx } from './device-policy.ts';
import type { BoundDevice, HostedFunction } from './hosted-function.ts';
import { Ioeventfds } from './ioeventfd.ts';
import { IoeventfdRegisters, type WrittenDevice } from './ioeventfd-registers.ts';
import type { DevicePower } from './power.ts';
import { mappableBars } from './region-info.ts';
import { resetFunction, seenReset } from './reset.ts';
import { VirtualConfig } from './virtual-config.ts';

export interface OpenState {
  readonly vconfig: VirtualConfig;
  readonly interrupts: Interrupts;
  readonly ioeventfds: Ioeventfds;
  /** By BAR. */
  readonly mappable: readonly boolean[];
  /** The reset at open worked: RESET exists. */
  readonly resetWorks: boolean;
  /** Configuration after that reset, put back at the last close. */
  readonly saved: SavedConfig;
  /** Null for a device that cannot be moved while it runs. */
  readonly migration: DeviceMigration | null;
}

/** The device that is enabled; `VfioPciDevice` is one. */
export interface EnabledDevice extends WrittenDevice {
  readonly fn: HostedFunction;
  readonly ctx: EngineContext;
  readonly host: FunctionHost;
  readonly power: DevicePower;
  readonly isVirtualFunction: boolean;
  /** The device of a virtual function's PF. */
  readonly physical: Pick<BoundDevice, 'token'> | null;
}

/** The device that is moved while it runs: by its model, or by the mediator that accepted it. */
interface MovedDevice {
  readonly host: FunctionHost;
  readonly power: DevicePower;
  readonly mediation: Pick<Mediation, 'migration' | 'failed'> | null;
}

/** The device's answers while it is enabled. */
export interface EnableHooks {
  /** The present state; null before the open is over, and after the last close. */
  current(): OpenState | null;
  /** The user wrote a reset bit in config space. */
  userReset(): void;
  /** The device has no user any more. */
  idle(): void;
}

/**
 * All or nothing.
 *
 * @throws VfioError EAGAIN while the device lock is held; what a fault plan makes a step fail with
 */
export function enable(device: EnabledDevice, hooks: EnableHooks): OpenState {
  const { fn, ctx, host, power } = device;
  const { config } = fn;
  using undo = new Cleanup();
  ctx.faults.step('device.enable.power');
  power.setState('D0');
  undo.defer(() => hooks.idle());
  const { command } = config;
  undo.defer(() => config.write(Config.COMMAND, 2, command));
  // The configuration that is restored later must not have bus mastering on (S2-26).
  config.writeBits(Config.COMMAND, 2, 0, Command.MASTER);
  ctx.faults.step('device.enable.decode');
  config.writeBits(Config.COMMAND, 2, 0xffff, decodeBits(fn));
  ctx.faults.step('device.enable.reset');
  const resetWorks = resetAtOpen(device);
  ctx.faults.step('device.enable.save');
  const saved = config.save();
  ctx.faults.step('device.enable.config');
  const noIntx = hasBrokenIntx(fn.declaration);
  const vconfig = virtualConfig(device, hooks, noIntx);
  ctx.faults.step('device.enable.interrupts');
  const { irq, msix } = host;
  const virtualPin = () => vconfig.interruptPin;
  const { dynamicMsix } = ctx.params;
  const interrupts: Interrupts = new Interrupts({
    bdf: device.bdf,
    ctx,
    config,
    host: irq,
    msix,
    virtualPin,
    noIntx,
    ...(fn.interruptLine === undefined ? {} : { line: fn.interruptLine }),
    maxVectors: () => vectorsFor(ctx, interrupts.vectors),
    dynamicMsix,
  });
  interrupts.open();
  undo.move();
  device.physical?.token?.use();
  return {
    vconfig,
    interrupts,
    ioeventfds: new Ioeventfds(new IoeventfdRegisters(device, () => hooks.current()?.vconfig ?? null)),
    mappable: mappableBars(fn, ctx.pageSize),
    resetWorks,
    saved,
    migration: null,
  };
}

/**
 * The number of vectors that a device that holds `own` may have: all that the other devices leave.
 */
function vectorsFor({ params, vectorsInUse }: EngineContext, own: number): number {
  if (params.maxVectors === null) return Number.POSITIVE_INFINITY;
  return params.maxVectors - ((vectorsInUse?.() ?? own) - own);
}

/** Migration by the device's model, or else by its mediator. */
export function migrationOf({ host, mediation, power }: MovedDevice, vconfig: VirtualConfig): DeviceMigration | null {
  const own = host.model?.migration;
  const model = own ?? mediation?.migration;
  if (model === undefined) return null;
  const failed: Failed = own === undefined ? mediation!.failed : (what, error) => host.modelFailed(what, error);
  return new DeviceMigration(new PciTarget({ host, model: checkedModel(model, failed), vconfig, power }), failed, host.events);
}

/**
 * False when the device has no reset that works (S2-31).
 *
 * @throws VfioError EAGAIN when the lock is held: waiting could dead-lock (S2-32)
 */
function resetAtOpen({ fn, ctx }: EnabledDevice): boolean {
  try {
    seenReset(fn, 'open', () => resetFunction(fn, ctx));
    return true;
  } catch (error) {
    if (!(error instanceof VfioError) || error.code === 'EAGAIN') throw error;
    return false;
  }
}

function virtualConfig({ fn, power, isVirtualFunction }: EnabledDevice, hooks: EnableHooks, noIntx: boolean): VirtualConfig {
  return new VirtualConfig(
    fn.config,
    {
      // Mappings look at `memoryEnabled` in every access: there is nothing to revoke.
      memoryDisabled: () => {},
      intxDisable: (on) => hooks.current()?.interrupts.intxDisable(on),
      setPowerState: (state) => power.setState(state),
      functionReset: () => hooks.userReset(),
      msiEnabled: () => hooks.current()?.interrupts.type === 'msi',
      msiQueueMax: () => hooks.current()?.interrupts.msiQueueMax ?? 0,
    },
    { noIntx, isVirtualFunction },
  );
}

/** COMMAND bits for the kinds of BARs the function has. */
function decodeBits({ declaration }: HostedFunction): number {
  let bits = declaration.rom === undefined ? 0 : Command.MEMORY;
  for (const bar of declaration.bars ?? []) bits |= bar.type === 'io' ? Command.IO : Command.MEMORY;
  return bits;
}
