/**
 * PCI Express (PCI Express Base 6.0, 7.5.3): registers, builder and permissions.
 * pci-express-text.ts has the lines that lspci prints.
 */
import { CapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { type RegisterReader, row, Why, withBits } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityKind } from './kind.ts';
import { PciExp, PciExpType } from './pci-express-registers.ts';
import { decodeExpress, expressChoices } from './pci-express-text.ts';

/** The device/port type of a PCI Express capability. */
export type PciePortType =
  | 'endpoint'
  | 'legacy-endpoint'
  | 'root-port'
  | 'upstream'
  | 'downstream'
  | 'rc-endpoint'
  | 'pcie-to-pci'
  | 'pci-to-pcie';

const portTypes = {
  endpoint: PciExpType.ENDPOINT,
  'legacy-endpoint': PciExpType.LEG_END,
  'root-port': PciExpType.ROOT_PORT,
  upstream: PciExpType.UPSTREAM,
  downstream: PciExpType.DOWNSTREAM,
  'rc-endpoint': PciExpType.RC_END,
  'pcie-to-pci': PciExpType.PCI_BRIDGE,
  'pci-to-pcie': PciExpType.PCIE_BRIDGE,
} as const satisfies Record<PciePortType, number>;

/** The registers of a PCI Express capability that a model chooses. */
export interface PcieOptions extends Placed {
  readonly portType?: PciePortType;
  /** Version of the capability: 1 or 2. Default: 2. */
  readonly version?: 1 | 2;
  /** Function-level reset. */
  readonly flr?: boolean;
  /** Largest payload that the device takes, 128 to 4096 bytes. Default: 128. */
  readonly maxPayload?: number;
  /**
   * Link speed 1 (2.5 GT/s, default) to 6, and width in lanes (1). Not for root-complex integrated
   * endpoints.
   */
  readonly linkSpeed?: number;
  readonly linkWidth?: number;
  /**
   * A port that reports Data Link Layer Link Active, and the value. Default: the port does not
   * report it.
   */
  readonly linkActive?: boolean;
  /** Port number, of ports. */
  readonly port?: number;
  readonly slot?: boolean;
  /**
   * DEVCTL bits that the hardware implements. Default: the four error reporting enables, as QEMU's
   * devices. FLR is a command, never stored.
   */
  readonly deviceControl?: number;
  /** Interrupt message number. */
  readonly interruptMessage?: number;
}

/** PCI Express. @throws VfioError EINVAL for a payload, speed or width that does not exist */
export function pcie(options: PcieOptions = {}): Capability {
  const portType = options.portType ?? 'endpoint';
  if (!Object.hasOwn(portTypes, portType)) throw new VfioError('EINVAL', `unknown PCI Express port type ${String(portType)}`);
  const version = options.version ?? 2;
  const linked = portType !== 'rc-endpoint';
  const payload = Math.log2(options.maxPayload ?? 128) - 7;
  if (!Number.isInteger(payload) || payload < 0 || payload > 5) {
    throw new VfioError('EINVAL', `maximum payload is ${String(options.maxPayload)}; it must be a power of two from 128 to 4096`);
  }
  const speed = checkIndex(options.linkSpeed ?? 1, 6, 'link speed');
  const width = options.linkWidth ?? 1;
  if (speed === 0 || ![1, 2, 4, 8, 12, 16, 32].includes(width)) {
    throw new VfioError('EINVAL', `a PCI Express link cannot have speed ${speed} and ${String(width)} lanes`);
  }
  const size = version === 1 ? (linked ? PciExp.SIZE_V1 : PciExp.SIZE_V1_NO_LINK) : linked ? PciExp.SIZE_V2_FULL : PciExp.SIZE_V2_NO_LINK;
  const flags =
    version |
    (portTypes[portType] << PciExp.FLAGS_TYPE_SHIFT) |
    (options.slot === true ? PciExp.FLAGS_SLOT : 0) |
    (checkIndex(options.interruptMessage ?? 0, 31, 'interrupt message number') << 9);
  const reporting = PciExp.DEVCTL_CERE | PciExp.DEVCTL_NFERE | PciExp.DEVCTL_FERE | PciExp.DEVCTL_URRE;
  const control = checkIndex(options.deviceControl ?? reporting, 0xffff, 'writable bits of device control') & ~PciExp.DEVCTL_BCR_FLR;
  const builder = new CapabilityBuilder(size)
    .set(PciExp.FLAGS, 2, flags)
    .set(PciExp.DEVCAP, 4, payload | PciExp.DEVCAP_EXT_TAG | PciExp.DEVCAP_RBER | (options.flr === true ? PciExp.DEVCAP_FLR : 0))
    .set(PciExp.DEVCTL, 2, 0, control)
    .set(PciExp.DEVSTA, 2, 0, 0, PciExp.DEVSTA_ERRORS);
  if (linked) {
    const port = checkIndex(options.port ?? 0, 0xff, 'port number');
    const reports = options.linkActive === undefined ? 0 : PciExp.LNKCAP_DLLLARC;
    builder
      .set(PciExp.LNKCAP, 4, ((port << 24) | reports | 0x400 | (width << 4) | speed) >>> 0)
      .set(PciExp.LNKCTL, 2, 0, 0x00c3)
      .set(PciExp.LNKSTA, 2, (options.linkActive === true ? PciExp.LNKSTA_DLLLA : 0) | (width << 4) | speed);
  }
  if (version === 2) {
    builder.set(PciExp.DEVCAP2, 4, 0x0030_0000).set(PciExp.DEVCTL2, 2, 0, PciExp.DEVCTL2_EETLPPB | (linked ? 0 : PciExp.DEVCTL2_ARI));
    if (linked && speed > 1) builder.set(PciExp.LNKCAP2, 4, (2 ** speed - 1) << 1).set(PciExp.LNKCTL2, 2, speed, 0x000f);
  }
  return builder.build(pciExpress, options);
}

function length(read: RegisterReader): number {
  const flags = read(PciExp.FLAGS, 2);
  const linked = (flags & PciExp.FLAGS_TYPE) >> PciExp.FLAGS_TYPE_SHIFT !== PciExpType.RC_END;
  if ((flags & PciExp.FLAGS_VERS) === 1) return linked ? PciExp.SIZE_V1 : PciExp.SIZE_V1_NO_LINK;
  return linked ? PciExp.SIZE_V2 : PciExp.SIZE_V2_NO_LINK;
}

export const pciExpress: CapabilityKind = {
  id: CapId.EXP,
  name: 'PCI Express',
  access: {
    length: {
      kind: 'variable',
      most: PciExp.SIZE_V2,
      rule: 'version 1: 20, without link 12; version 2: 52, without link 44',
      of: length,
    },
    why: 'read-only: abilities and status of the device; link, slot and root belong to the fabric',
    rows: [
      withBits(
        row(
          PciExp.DEVCTL,
          2,
          'device control',
          PciExp.DEVCTL_BCR_FLR | PciExp.DEVCTL_PAYLOAD | PciExp.DEVCTL_READRQ,
          ~PciExp.DEVCTL_PHANTOM,
          Why.THIS_FUNCTION,
          'function-reset',
          'read-request-size',
        ),
        [PciExp.DEVCTL_BCR_FLR, Why.RESET],
        [PciExp.DEVCTL_READRQ, 'the host sets the hardware’s field, never below the payload size'],
        [PciExp.DEVCTL_PAYLOAD, 'payload size is agreed over the whole fabric, so the user’s stays in the copy'],
        [PciExp.DEVCTL_PHANTOM, 'phantom functions would use requester ids that the IOMMU does not know'],
      ),
      withBits(row(PciExp.DEVCTL2, 2, 'device control 2', 0, ~PciExp.DEVCTL2_ARI, Why.THIS_FUNCTION), [
        PciExp.DEVCTL2_ARI,
        'ARI forwarding is set up by the host at probe',
      ]),
    ],
  },
  choices: expressChoices,
  decode: decodeExpress,
};
