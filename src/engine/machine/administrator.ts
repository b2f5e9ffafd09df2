/**
 * Actions of an administrator on one function: reset, power and reports of errors. Each may disturb
 * the function's user.
 */
import type { ErrorKind } from '../../abi/device-host.ts';
import { CapId, Pm, PowerState } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import { resetFunction, seenReset } from '../device/reset.ts';
import type { PciFunction } from './pci-function.ts';

/**
 * Reset `fn`, as sysfs `reset` does, also while a user has it. A PF takes its VFs along and asks
 * for no token (S3-20).
 *
 * @throws VfioError EAGAIN when the device lock is held; ENOTTY without a way to reset the function
 */
export function resetByAdministrator(fn: PciFunction, ctx: EngineContext): void {
  seenReset(fn, 'administrator', () => {
    fn.host.checkUnlocked();
    fn.vfio?.beginReset();
    try {
      resetFunction(fn, ctx);
    } finally {
      fn.vfio?.endReset();
    }
  });
}

/**
 * Put `fn` into D0 or D3hot, as setpci does by PMCSR.
 *
 * @throws VfioError EOPNOTSUPP without a power management capability; EBUSY for a PF that has VFs
 */
export function setPower(fn: PciFunction, state: 'D0' | 'D3hot'): void {
  const pm = fn.config.findCapability(CapId.PM);
  if (pm === 0) throw new VfioError('EOPNOTSUPP', `${fn.bdf} has no power management: it is always in D0`);
  const vfs = fn.sriov?.numVfs ?? 0;
  if (vfs > 0 && state === 'D3hot') {
    throw new VfioError('EBUSY', `${fn.bdf} has ${vfs} virtual functions, which would lose their power`, { fix: 'Disable them first.' });
  }
  // The driver of a function without vfio-pci restores the configuration itself.
  if (fn.vfio !== null) fn.vfio.power.setState(state);
  else fn.config.writeBits(pm + Pm.CTRL, 2, state === 'D0' ? PowerState.D0 : PowerState.D3HOT, Pm.CTRL_STATE_MASK);
}

/**
 * Have `fn` report a PCI Express error, as aer-inject does.
 *
 * @returns false: the function sent no message, because the error is masked or its reporting is off
 * @throws VfioError EOPNOTSUPP for a function that is not PCI Express; EINVAL for an unknown kind
 */
export function reportErrorOf(fn: PciFunction, kind: ErrorKind, status?: number): boolean {
  if (fn.config.findCapability(CapId.EXP) === 0) {
    throw new VfioError('EOPNOTSUPP', `${fn.bdf} is not a PCI Express device, so it reports no errors`);
  }
  return fn.host.reportError(kind, status);
}
