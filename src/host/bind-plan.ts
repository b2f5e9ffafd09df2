/**
 * The steps that give functions of this computer to a driver, and those that give them back.
 *
 * @see linux/drivers/base/bus.c, unbind_store(), drivers_probe_store();
 * linux/drivers/pci/pci-driver.c, pci_match_device(); linux/drivers/vfio/pci/vfio_pci_core.c,
 * vfio_pci_core_register_device()
 */
import { VfioError } from '../base/errno.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { checkFunction, type FunctionState, functionFolder, functionState, PCI } from './function-state.ts';
import type { HostStep } from './host-step.ts';

/** The word for no driver, on command lines and in records. */
export const NO_DRIVER = 'none';

export interface FunctionBind {
  readonly fn: FunctionState;
  /** Null: no driver. */
  readonly to: string | null;
  /** The override that stays; null for none. */
  readonly override: string | null;
}

/** Host bridges and bridges to other buses: drivers of the host, or none, have them. */
export const isPlatform = (fn: FunctionState): boolean => fn.isBridge || (fn.class.startsWith('06') && fn.driver === null);

/**
 * Functions of a group that go to the driver together: all but bridges. VFIO gives no user a group
 * in which a driver of the kernel does DMA.
 */
export function membersToBind(group: readonly FunctionState[]): readonly FunctionState[] {
  return group.filter((fn) => !isPlatform(fn));
}

/** @throws VfioError ENODEV, EINVAL for a bridge */
export function checkCanBind(files: HostFiles, bdf: string, to: string): void {
  checkFunction(files, bdf);
  if (!functionState(files, bdf).isBridge || to === NO_DRIVER) return;
  throw new VfioError('EINVAL', `${bdf} is a bridge, and ${to} takes no bridges`, {
    fix: 'Bind the devices behind it. A bridge with the driver pcieport, or with none, is not in the way.',
  });
}

/** The step that loads a driver that is neither loaded nor built in. */
export function loadingSteps(files: HostFiles, driver: string): readonly HostStep[] {
  if (driver === NO_DRIVER || files.exists(`${PCI}/drivers/${driver}`)) return [];
  return [
    {
      purpose: `load the driver ${driver}`,
      change: { kind: 'run', program: 'modprobe', words: [driver] },
      undo: [],
      fix:
        driver === 'vfio-pci'
          ? 'Install a kernel with CONFIG_VFIO_PCI, and the modules of the kernel that runs (vfio doctor looks at it).'
          : `Give the name of a PCI driver, as in ${PCI}/drivers, and install its module.`,
    },
  ];
}

/** An empty line removes an override. */
const overrideValue = (override: string | null): string => override ?? '';

/**
 * Steps for one function. The order is that of `echo` by hand: a bound function has no driver
 * before it has an override, so that a failed step leaves no other driver to take it.
 */
export function bindSteps({ fn, to, override }: FunctionBind): readonly HostStep[] {
  const { bdf, driver } = fn;
  const folder = functionFolder(bdf);
  const steps: HostStep[] = [];
  const moves = driver !== to;
  if (moves && driver !== null) {
    steps.push({
      purpose: `unbind ${bdf} from ${driver}`,
      change: { kind: 'write', path: `${PCI}/drivers/${driver}/unbind`, value: bdf },
      undo: [
        { kind: 'write', path: `${PCI}/drivers/${driver}/bind`, value: bdf },
        // Virtual functions went with the driver.
        ...virtualFunctionSteps(fn, fn.numVfs).map(({ change }) => change),
      ],
    });
  }
  if (fn.driverOverride !== override) {
    steps.push({
      purpose: override === null ? `remove the driver override of ${bdf}` : `set the driver override of ${bdf} to ${override}`,
      change: { kind: 'write', path: `${folder}/driver_override`, value: overrideValue(override) },
      undo: [{ kind: 'write', path: `${folder}/driver_override`, value: overrideValue(fn.driverOverride) }],
    });
  }
  if (moves && to !== null) {
    steps.push({
      purpose: `bind ${bdf} to ${to}`,
      change: { kind: 'write', path: `${PCI}/drivers/${to}/bind`, value: bdf },
      undo: [{ kind: 'write', path: `${PCI}/drivers/${to}/unbind`, value: bdf }],
      fix: `The kernel’s log (dmesg) says why ${to} refuses${to === 'vfio-pci' ? '; vfio doctor says whether an IOMMU is there' : ''}.`,
    });
  }
  return steps;
}

/** The step that enables the virtual functions that were enabled before; none where they are. */
export function virtualFunctionSteps(fn: FunctionState, numVfs: number | null): readonly HostStep[] {
  if (numVfs === null || numVfs === 0) return [];
  return [
    {
      purpose: `enable ${numVfs} virtual functions of ${fn.bdf}`,
      change: { kind: 'write', path: `${functionFolder(fn.bdf)}/sriov_numvfs`, value: String(numVfs) },
      undo: [],
    },
  ];
}

/** @throws VfioError EBUSY where a function has another driver than it has to have */
export function verifyBinds(files: HostFiles, binds: readonly FunctionBind[]): void {
  for (const { fn, to } of binds) {
    const { driver } = functionState(files, fn.bdf);
    if (driver === to) continue;
    throw new VfioError('EBUSY', `${fn.bdf} has ${driver === null ? 'no driver' : `the driver ${driver}`}, not ${to ?? 'none'}`, {
      fix: 'dmesg has the reason of the driver.',
    });
  }
}
