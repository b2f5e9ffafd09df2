/** Device 3 (PCI Express Base 6.0, 7.7.9): the fields for which Device 2 had no room. */
import { ExtCapId } from '../../abi/pci.ts';
import { choice } from '../decode/text.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

/** Link widths as registers of flit mode have them. */
export const linkWidth = choice(['x1', 'x2', 'x4', 'x8', 'x16', null, null, 'Dynamic'], (value) => `Unknown (${value})`);
const exitLatencies = [
  'Less than 1us',
  '1us to less than 2us',
  '2us to less than 4us',
  '4us to less than 8us',
  '8us to less than 16us',
  '16us to less than 32us',
  '32us-64us',
  'More than 64us',
];
const choices = { linkWidth, exit: choice(exitLatencies) };

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Device 3';
  if (!r.has(4, 12)) return { title };
  const [cap, control, status] = [r.u32(4), r.u32(8), r.u32(12)];
  const latencies = (cap & 8) !== 0 ? ', Port L0p Exit Latency: {PortExit=6:4 exit}, Retimer L0p Exit Latency: {RetimerExit=9:7 exit}' : '';
  d.line(
    'DevCap3',
    cap,
    '\t\tDevCap3: DMWr Request Routing{Routing=0}, 14-Bit Tag Completer{TagCompleter=1}, 14-Bit Tag Requester{TagRequester=2}',
  );
  d.line('DevCap3', cap, `\t\t\t L0p{3}${latencies}`);
  d.line('DevCap3', cap, '\t\t\t UIO Mem RdWr Completer{UioCompleter=10}, UIO Mem RdWr Requester{UioRequester=11}');
  d.line(
    'DevCtl3',
    control,
    '\t\tDevCtl3: DMWr Requester{Requester=0}, DMWr Egress Blocking{Blocking=1}, 14-Bit Tag Requester{TagRequester=2}',
  );
  d.line('DevCtl3', control, '\t\t\t L0p{3}, Target Link Width: {Width=6:4 linkWidth}');
  // Bit 8 switches the boundary off.
  const boundary = (control & 0x100) === 0;
  d.set('DevCtl3', 'Boundary256B', boundary);
  d.line('DevCtl3', control, `\t\t\t UIO Mem RdWr Requester{UioRequester=7}, UIO Request 256B Boundary${boundary ? '+' : '-'}`);
  d.line('DevSta3', status, '\t\tDevSta3: Initial Link Width: {Width=2:0 linkWidth}, Segment Captured{3}, Remote L0p{L0p=4}');
  return { title };
};

export const device3: CapabilityKind = {
  id: ExtCapId.DEV3,
  extended: true,
  name: 'Device 3',
  choices,
  decode,
};
