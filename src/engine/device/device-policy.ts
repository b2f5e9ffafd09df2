/** The functions that vfio-pci binds to, and the devices that it treats specially. */
import { CapId, Config, HeaderType } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import type { EngineContext } from '../context.ts';
import type { HostedFunction } from './hosted-function.ts';
import { resetMethods } from './reset.ts';

const INTEL = 0x8086;

/**
 * Accelerators that a user could wedge for the whole host: Intel QAT C3xxx, C62x, DH895xCC and
 * their virtual functions.
 *
 * @see linux/drivers/vfio/pci/vfio_pci.c, vfio_pci_dev_in_denylist()
 */
const denied: ReadonlySet<number> = new Set([0x19e2, 0x19e3, 0x37c8, 0x37c9, 0x0435, 0x0443]);

/**
 * Network controllers whose INTx is broken: Intel X550 and the i40e family.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_nointx()
 */
const brokenIntx: readonly (readonly [first: number, last: number])[] = [
  [0x1563, 0x1563],
  [0x1572, 0x1572],
  [0x1574, 0x1574],
  [0x1580, 0x1581],
  [0x1583, 0x158b],
  [0x37d0, 0x37d2],
];

export function hasBrokenIntx({ vendor, device }: PciDeclaration): boolean {
  return vendor === INTEL && brokenIntx.some(([first, last]) => device >= first && device <= last);
}

/**
 * @throws VfioError EINVAL a bridge, a function without isolating or coherent IOMMU, a denied id;
 * EBUSY a PF that has VFs (S3-16); ENODEV when `requireReset` asks for a reset that the function
 * does not have
 */
export function checkBindable(fn: HostedFunction, ctx: EngineContext): void {
  const { bdf, config, declaration, group } = fn;
  if ((config.bytes[Config.HEADER_TYPE]! & HeaderType.MASK) !== HeaderType.NORMAL) {
    throw new VfioError('EINVAL', `${bdf} is a bridge, and vfio-pci drives endpoints only`, { fix: 'Leave bridges to their own driver.' });
  }
  if (declaration.vendor === INTEL && denied.has(declaration.device) && !ctx.params.disableDenylist) {
    throw new VfioError('EINVAL', `${bdf} is on the denylist: devices that can harm the host in a user's hands`, {
      fix: 'If you trust the user, allow it in the machine file: `params: { disableDenylist: true }`.',
    });
  }
  const vfs = fn.sriov?.numVfs ?? 0;
  if (vfs > 0) {
    throw new VfioError(
      'EBUSY',
      `${bdf} has ${vfs} virtual function${vfs === 1 ? '' : 's'} already, and vfio-pci does not know their users`,
      {
        fix: `Disable them first: sriov_numvfs of ${bdf} to 0; in a machine file, its numVfs.`,
      },
    );
  }
  if (group === null || (group.iommu.kind === 'none' && group.iommu.physical === undefined)) {
    throw new VfioError('EINVAL', `${bdf} has no IOMMU in front of it that isolates it`, {
      fix: 'Give the machine an IOMMU of kind full, or set the parameter unsafeNoIommu.',
    });
  }
  if (!group.iommu.coherent) {
    throw new VfioError('EINVAL', `DMA of ${bdf} is not coherent with the caches`, { fix: 'Use a device behind a coherent IOMMU.' });
  }
  if (ctx.params.requireReset && resetMethods(fn).length === 0) {
    throw new VfioError('ENODEV', `${bdf} cannot be reset, and requireReset is set: its next user would find the last user's state`, {
      fix: `Give the model ${config.findCapability(CapId.EXP) === 0 ? 'an AF or' : 'FLR in its'} PCI Express capability, or put it alone behind a root port.`,
    });
  }
}
