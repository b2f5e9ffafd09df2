/**
 * The kernel's part after a function reports an error: the users of every function below the port
 * above hear of it, and after a fatal error the link is reset.
 *
 * @see linux/drivers/pci/pcie/err.c, pcie_do_recovery(); vfio_pci_core.c,
 * vfio_pci_core_aer_err_detected()
 */
import type { ErrorKind } from '../../abi/device-host.ts';
import type { EngineContext } from '../context.ts';
import type { HostedFunction } from './hosted-function.ts';
import { resetBus } from './hot-reset.ts';
import { resetFunction, seenReset } from './reset.ts';

export function recoverFrom(fn: HostedFunction, kind: ErrorKind, ctx: EngineContext): void {
  if (kind === 'correctable') return;
  const hit = fn.inBusReset() ?? [fn];
  for (const each of hit) each.vfio?.reportError();
  if (kind !== 'fatal') return;
  // The reset has a turn of its own: the model that reports the error may be in the middle of an
  // access. Where a function sleeps, its clock counts: the machine recovers after the sleep.
  const { clock } = (hit.find(({ vfio }) => vfio?.power.suspended === true) ?? fn).host;
  clock.after(0, () => resetLink(fn, ctx));
}

function resetLink(fn: HostedFunction, ctx: EngineContext): void {
  const members = fn.inBusReset();
  try {
    if (members !== null) {
      const devices = members.map((each) => each.vfio).filter((device) => device !== null);
      resetBus(members, devices, ctx);
    } else {
      fn.vfio?.beginReset();
      try {
        seenReset(fn, 'recovery', () => resetFunction(fn, ctx));
      } finally {
        fn.vfio?.endReset();
      }
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    fn.host.events.note('warn', 'recovery', `${fn.bdf}: recovery from a fatal error failed: ${why}`);
  }
}
