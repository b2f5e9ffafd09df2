/**
 * Reset of one function: its methods, in Linux's order, and a reset that keeps the configuration.
 *
 * @see linux/drivers/pci/pci.c, pci_reset_fn_methods[], pci_try_reset_function()
 */
import { CapId, Command, Config, Pm, PowerState } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import { Af } from '../../pci/capabilities/advanced-features.ts';
import { PciExp, PciExpType } from '../../pci/capabilities/pci-express-registers.ts';
import type { EngineContext } from '../context.ts';
import type { HostedFunction } from './hosted-function.ts';

export const ResetMethods = ['flr', 'af_flr', 'pm', 'bus'] as const;
export type ResetMethod = (typeof ResetMethods)[number];

/** The methods that reset this function alone, best first; empty when there is none. */
export function resetMethods(fn: HostedFunction): readonly ResetMethod[] {
  const declared = fn.declaration.resets;
  const own = (method: 'flr' | 'af' | 'pm', byCapability: boolean) => (declared === undefined ? byCapability : declared.includes(method));
  const found: ResetMethod[] = [];
  if (own('flr', hasFlr(fn))) found.push('flr');
  if (own('af', hasAfFlr(fn))) found.push('af_flr');
  if (own('pm', true) && hasPmReset(fn)) found.push('pm');
  if (aloneBehindBridge(fn)) found.push('bus');
  return found;
}

function hasFlr({ config }: HostedFunction): boolean {
  const express = config.findCapability(CapId.EXP);
  return express !== 0 && (config.read(express + PciExp.DEVCAP, 4) & PciExp.DEVCAP_FLR) !== 0;
}

function hasAfFlr({ config }: HostedFunction): boolean {
  const af = config.findCapability(CapId.AF);
  const needed = Af.CAP_TP | Af.CAP_FLR;
  return af !== 0 && (config.read(af + Af.CAP, 1) & needed) === needed;
}

/** D3hot and back resets a function that does not promise No_Soft_Reset. */
function hasPmReset({ config }: HostedFunction): boolean {
  const pm = config.findCapability(CapId.PM);
  return pm !== 0 && (config.read(pm + Pm.CTRL, 2) & Pm.CTRL_NO_SOFT_RESET) === 0;
}

/**
 * A secondary bus reset hits every function on the bus, so it is a function's own reset only where
 * the function is alone. Root buses have none.
 */
function aloneBehindBridge(fn: HostedFunction): boolean {
  return fn.inBusReset()?.length === 1;
}

/**
 * A reset is one event of the function, also where it fails. Everything that it does names it.
 *
 * @param by  as `ResetEvent.by`   @param method  default: the function's best one
 */
export function seenReset(fn: HostedFunction, by: string, reset: () => void, method: ResetMethod | undefined = resetMethods(fn)[0]): void {
  const { events } = fn.host;
  if (events.on) events.attempt('reset', { by, ...(method === undefined ? {} : { method }) }, reset);
  else reset();
}

/**
 * Reset the function and put its configuration back, bus mastering included. Hold no references to
 * the state of its registers across this call.
 *
 * @throws VfioError EAGAIN while the device lock is held; ENOTTY when the function has no method;
 * what a fault plan makes step 'device.reset' fail with
 */
export function resetFunction(fn: HostedFunction, ctx: EngineContext): void {
  if (resetMethods(fn).length === 0) throw noReset(fn);
  using _lock = fn.host.lock('a reset');
  const saved = fn.config.save();
  try {
    runReset(fn, ctx);
  } finally {
    fn.config.restore(saved);
  }
}

/**
 * The reset alone, for callers that hold the device lock or know that it is free. Interrupts and
 * DMA are off when it starts; the configuration is at power-on values when it ends.
 */
export function runReset(fn: HostedFunction, ctx: EngineContext): void {
  quiesce(fn);
  const [method] = resetMethods(fn);
  ctx.faults.step('device.reset');
  switch (method) {
    case undefined:
      throw noReset(fn);
    case 'pm': {
      const control = fn.config.findCapability(CapId.PM) + Pm.CTRL;
      fn.config.writeBits(control, 2, PowerState.D3HOT, Pm.CTRL_STATE_MASK);
      fn.config.writeBits(control, 2, PowerState.D0, Pm.CTRL_STATE_MASK);
      return;
    }
    case 'flr':
    case 'af_flr':
      fn.host.functionReset();
      return;
    case 'bus':
      fn.host.functionReset();
      checkLink(fn);
      return;
    default:
      method satisfies never;
  }
}

/** Above this speed, 5 GT/s, Linux waits for the link itself and not for the device. */
const WAITS_FOR_DEVICE = 2;

/**
 * The bus of `fn` was reset: the port above waits for its link to come back. When a port reports
 * its link state, and reports the link down, Linux takes the bus for empty, although the reset has
 * happened and the device answers.
 *
 * @throws VfioError ENOTTY, as the kernel has it
 * @see linux/drivers/pci/pci.c, pci_bridge_wait_for_secondary_bus(), pcie_wait_for_link_delay()
 */
export function checkLink({ bdf, parent }: HostedFunction): void {
  if (parent == null) return;
  const { config } = parent;
  const express = config.findCapability(CapId.EXP);
  if (express === 0) return;
  const type = (config.read(express + PciExp.FLAGS, 2) & PciExp.FLAGS_TYPE) >> PciExp.FLAGS_TYPE_SHIFT;
  if (type !== PciExpType.ROOT_PORT && type !== PciExpType.DOWNSTREAM) return;
  const link = config.read(express + PciExp.LNKCAP, 4);
  if ((link & PciExp.LNKCAP_SPEED) <= WAITS_FOR_DEVICE || (link & PciExp.LNKCAP_DLLLARC) === 0) return;
  if ((config.read(express + PciExp.LNKSTA, 2) & PciExp.LNKSTA_DLLLA) !== 0) return;
  throw new VfioError('ENOTTY', `${bdf} was reset with its bus, and ${parent.bdf} says that its link did not come back`, {
    fix: 'QEMU: -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off. A machine file: the port with link: { active: true }.',
  });
}

function noReset(fn: HostedFunction): VfioError {
  const why = 'it has no function-level reset, and a bus reset would hit others or is not possible';
  return new VfioError('ENOTTY', `${fn.bdf} cannot be reset: ${why}`, {
    fix: 'Give the model an FLR capability, or put the device alone behind a bridge.',
  });
}

/** From here on nothing leaves the function: no DMA, no messages, no INTx. */
export function quiesce(fn: HostedFunction): void {
  fn.config.write(Config.COMMAND, 2, Command.INTX_DISABLE);
}
