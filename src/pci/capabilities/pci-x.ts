/**
 * PCI-X (PCI-X Addendum 2.0, 7.2 and 8.6): functions and bridges have different registers under one
 * id.
 */
import { CapId } from '../../abi/pci.ts';
import type { Capability } from '../declaration.ts';
import { choice } from '../decode/text.ts';
import { ALL, row } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

export const Pcix = { CMD: 2, CMD_VERSION_SHIFT: 12, CMD_VERSION_MASK: 0x3, STATUS: 4, ECC_CSR: 8, SIZE_V0: 8, SIZE_V2: 24 } as const;

/** PCI-X; version 0 has 8 bytes, 1 and 2 have 24 with the ECC registers. */
export function pcix(options: { version?: 0 | 1 | 2 } & Placed = {}): Capability {
  const version = options.version ?? 0;
  const builder = new CapabilityBuilder(version === 0 ? Pcix.SIZE_V0 : Pcix.SIZE_V2)
    .set(Pcix.CMD, 2, version << Pcix.CMD_VERSION_SHIFT, 0x007f)
    .set(Pcix.STATUS, 4, 0, 0, 0x200c_0000);
  if (version !== 0) builder.set(Pcix.ECC_CSR, 4, 0, 0x1f00_0f00);
  return builder.build(pciX, options);
}

const choices = {
  bytes: choice(['512', '1024', '2048', '4096']),
  splits: choice(['1', '2', '3', '4', '8', '12', '16', '32']),
  reads: choice(['8', '16', '32', '64', '128', '256', '512', '1024']),
  kind: choice(['simple', 'bridge']),
  frequency: choice(['conv', '66MHz', '100MHz', '133MHz'], (value) => `?${value}`),
};
/**
 * The registers of a bridge: the secondary status takes the place of the command; two words for
 * each direction follow the status.
 */
const bridge = { secondary: 2, status: 4, upstream: 8, downstream: 12, size: 16 } as const;
const bridgeBits = '64bit{16} 133MHz{17} SCD{18} USC{19} SCO{20} SRD{21}';

const decode: CapabilityDecoder = (r, d, context) => {
  if (context.bridge) {
    if (r.has(bridge.secondary, bridge.size - 2)) {
      const secondary = r.u16(bridge.secondary);
      d.line('secondary', secondary, '\t\tSecondary Status: 64bit{0} 133MHz{1} SCD{2} USC{3} SCO{4} SRD{5} Freq={8:6 frequency}');
      d.line('status', r.u32(bridge.status), `\t\tStatus: Dev={bus=15:8 hex2}:{device=7:3 hex2}.{function=2:0} ${bridgeBits}`);
      d.line('upstream', r.u32(bridge.upstream), '\t\tUpstream: Capacity={15:0} CommitmentLimit={31:16}');
      d.line('downstream', r.u32(bridge.downstream), '\t\tDownstream: Capacity={15:0} CommitmentLimit={31:16}');
    }
    return { title: 'PCI-X bridge device' };
  }
  if (r.has(Pcix.STATUS, 4)) {
    d.line('command', r.u16(Pcix.CMD), '\t\tCommand: DPERE{0} ERO{1} RBC={3:2 bytes} OST={6:4 splits}');
    d.line(
      'status',
      r.u32(Pcix.STATUS),
      '\t\tStatus: Dev={bus=15:8 hex2}:{device=7:3 hex2}.{function=2:0} 64bit{16} 133MHz{17} SCD{18} USC{19} DC={20:20 kind} ' +
        'DMMRBC={22:21 bytes} DMOST={25:23 splits} DMCRS={28:26 reads} RSCEM{29} 266MHz{30} 533MHz{31}',
    );
  }
  return { title: 'PCI-X non-bridge device' };
};

export const pciX: CapabilityKind = {
  id: CapId.PCIX,
  name: 'PCI-X',
  access: {
    length: {
      kind: 'variable',
      most: Pcix.SIZE_V2,
      rule: '8 in version 0, else 24',
      of: (read) => (((read(Pcix.CMD, 2) >> Pcix.CMD_VERSION_SHIFT) & Pcix.CMD_VERSION_MASK) === 0 ? Pcix.SIZE_V0 : Pcix.SIZE_V2),
    },
    why: 'read-only: status of the bus',
    rows: [
      row(Pcix.CMD, 2, 'PCI-X command', 0, ALL, 'tunes this function only'),
      row(Pcix.ECC_CSR, 4, 'ECC control and status', 0, ALL, 'tunes this function only'),
    ],
  },
  choices,
  decode,
};
