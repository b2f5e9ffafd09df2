/** PCI-X (PCI-X Addendum 2.0, 7.2 and 8.6): functions and bridges have different registers under one id. */
import { Pcix } from '../../abi/pci.ts';
import type { CapabilityDecoder } from '../decode-capabilities.ts';
import { choice } from '../decode-text.ts';

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

export const pcix: CapabilityDecoder = (r, whole, context) => {
  const d = whole.with(choices);
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
