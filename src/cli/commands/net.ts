import type { CommandSpec, OptionSpec } from '../command.ts';
import { eventNote, eventOptions } from '../event-options.ts';
import { FRAME_BYTES_MAX, frameSize, hexFrame, interruptKinds, ipv4, mac, vfSettings } from '../net/values.ts';
import { hardwareOptions, jsonOption, vfTokenOption } from '../options.ts';
import { address, file, integer, oneOf, seconds } from '../values.ts';

const actions = () => import('../net/actions.ts');

const port = { name: '<address>', help: 'the network card: sim:82576, unix:PATH or a BDF', kind: address };
const frames = integer(1, Number.MAX_SAFE_INTEGER);
const accessOptions: readonly OptionSpec[] = [...hardwareOptions, vfTokenOption, ...eventOptions];
const interruptsOption: OptionSpec = {
  flags: '--interrupts <kind>',
  help: 'how the driver finds frames',
  kind: oneOf(interruptKinds),
  default: 'msix',
};
const promiscuousOption: OptionSpec = { flags: '-p, --promiscuous', help: 'also frames for other stations' };
const ipOption: OptionSpec = { flags: '--ip <address>', help: 'the IPv4 address whose ARP requests and pings get an answer', kind: ipv4 };

const list: CommandSpec = {
  name: 'list',
  summary: 'Ethernet address, link, queues and counters of network cards, one a line',
  arguments: [{ ...port, name: '<address...>', help: 'the network cards: sim:82576, unix:PATH or a BDF each' }],
  options: [
    { flags: '--wait <seconds>', help: 'how long to wait for a link', kind: seconds, default: 3 },
    { flags: '--counters', help: 'every counter of a card that is not zero, below its line' },
    jsonOption,
    ...accessOptions,
  ],
  notes: ['The card is reset before and after: its counters are those of the time between, and the link comes up anew.'],
  examples: ['vfio net list sim:82576', 'vfio net list unix:/tmp/card.sock --counters'],
  run: async () => (await actions()).listCards,
};

const send: CommandSpec = {
  name: 'send',
  summary: 'send frames: one, those of a capture, or as many as wanted of any size',
  arguments: [port],
  options: [
    {
      flags: '--frame <hex>',
      help: 'one frame, as hexadecimal digits without check sequence',
      kind: hexFrame,
      conflicts: ['input', 'size', 'to'],
    },
    {
      flags: '-i, --input <file>',
      help: 'the frames of a file in pcap or pcapng; - is standard input',
      kind: file('.pcap', '.pcapng', '.cap'),
      conflicts: ['size', 'to'],
    },
    {
      flags: '-s, --size <bytes>',
      help: `bytes of each frame that is generated, with its check sequence: 64 to ${FRAME_BYTES_MAX}. Default: 64`,
      kind: frameSize,
    },
    { flags: '--to <mac>', help: 'the station that gets frames that are generated. Default: all (broadcast)', kind: mac },
    {
      flags: '-c, --count <frames>',
      help: 'how many frames; those of a file begin anew at its end. Default: 1, or all of the file',
      kind: frames,
    },
    { flags: '-r, --rate <frames>', help: 'frames a second. Default: as many as the card takes', kind: integer(1, 100_000_000) },
    { flags: '-t, --seconds <seconds>', help: 'how long, where --count is not given', kind: seconds, conflicts: ['count'] },
    ...accessOptions,
  ],
  notes: [
    'A frame that is generated is a UDP datagram from 198.18.0.1 to 198.19.0.1, port 9 (discard), whose payload begins with its number.',
    eventNote,
  ],
  examples: [
    'vfio net send unix:/tmp/card.sock --size 1518 --count 1000 --rate 100',
    'vfio net send unix:/tmp/card.sock --input frames.pcapng',
    'vfio net send unix:/tmp/card.sock --frame "ffffffffffff 020000000001 88b5 00"',
  ],
  run: async () => (await actions()).sendFrames,
};

const capture: CommandSpec = {
  name: 'capture',
  summary: 'write the frames that arrive as pcapng, for Wireshark',
  arguments: [port],
  options: [
    { flags: '-o, --output <file>', help: 'the file to write; - is standard output', kind: file('.pcapng'), default: '-' },
    { flags: '-c, --count <frames>', help: 'end after so many frames', kind: frames },
    { flags: '-t, --seconds <seconds>', help: 'end after so long', kind: seconds },
    promiscuousOption,
    interruptsOption,
    ...accessOptions,
  ],
  notes: [
    'A frame for all stations, or for a group, is always one of them. Ctrl-C ends the capture, whose file is whole at any time.',
    eventNote,
  ],
  examples: [
    'vfio net capture unix:/tmp/card.sock --promiscuous | wireshark -k -i -',
    'vfio net capture unix:/tmp/card.sock --count 100 --output frames.pcapng',
  ],
  run: async () => (await actions()).captureFrames,
};

const echo: CommandSpec = {
  name: 'echo',
  summary: 'answer ARP and ping, and send every other frame back',
  arguments: [port],
  options: [
    ipOption,
    { flags: '-c, --count <frames>', help: 'end after so many answers', kind: frames },
    { flags: '-t, --seconds <seconds>', help: 'end after so long', kind: seconds },
    interruptsOption,
    ...accessOptions,
  ],
  notes: [
    'A frame for the card comes back with its Ethernet addresses swapped, and so are IP addresses and the ports of UDP and TCP. Frames for all stations get no answer but that to an ARP request for --ip.',
    'Ctrl-C ends it.',
    eventNote,
  ],
  examples: ['vfio net echo unix:/tmp/card.sock --ip 10.0.0.1'],
  run: async () => (await actions()).echoFrames,
};

const share: CommandSpec = {
  name: 'share',
  summary: 'drive a physical function, and serve the virtual functions of its tenants',
  arguments: [port],
  options: [
    {
      flags: '--vf <settings>',
      help: 'settings of one VF: 0,mac=52:54:00:00:00:01,vlan=100 and also spoof-check=on|off, trust=on|off. Default: a random address, spoof-check=on, trust=off',
      kind: vfSettings,
      repeats: true,
    },
    ipOption,
    { flags: '-t, --seconds <seconds>', help: 'end after so long', kind: seconds },
    interruptsOption,
    ...accessOptions,
  ],
  notes: [
    'The command answers the messages of VFs (reset, addresses, VLANs, longest frame), reports links, and prints a line for each message until Ctrl-C. Without it, or another driver of the physical function, VFs have no link.',
    'An administrator enables VFs: vfio admin DIRECTORY numvfs. --vf-token-file sets the token that tenants have to show.',
    eventNote,
  ],
  examples: ['vfio net share unix:/tmp/card/0000:01:00.0.sock --vf-token-file token --vf 0,mac=52:54:00:00:00:01 --ip 10.0.0.1'],
  run: async () => (await actions()).shareCard,
};

const bench: CommandSpec = {
  name: 'bench',
  summary: 'frames a second, bandwidth and latencies of a card by itself, or of two on one wire',
  arguments: [port, { name: '[receiver]', help: 'the card that receives. Default: the first one, which sends to itself', kind: address }],
  options: [
    {
      flags: '-s, --size <bytes>',
      help: `bytes of each frame, with its check sequence: 64 to ${FRAME_BYTES_MAX}`,
      kind: frameSize,
      default: 64,
    },
    { flags: '-d, --depth <frames>', help: 'frames in flight', kind: integer(1, 256), default: 128 },
    { flags: '-t, --seconds <seconds>', help: 'how long', kind: seconds, default: 5 },
    jsonOption,
    ...accessOptions,
  ],
  notes: [
    'A latency is the time from the moment when the driver announces a frame to the moment when the receiving driver finds it. The drivers poll. The first 0.3 seconds do not count. One card alone loops frames back in its PHY.',
    eventNote,
  ],
  examples: ['vfio net bench sim:82576 --seconds 2', 'vfio net bench unix:/tmp/a.sock unix:/tmp/b.sock --size 1518'],
  run: async () => (await actions()).benchCards,
};

export const net: CommandSpec = {
  name: 'net',
  summary: 'send, capture and answer frames with network cards, share one among tenants, and measure them',
  commands: [list, send, capture, echo, share, bench],
  examples: [
    'vfio net list sim:82576',
    'vfio net echo unix:/tmp/card.sock --ip 10.0.0.1',
    'vfio net capture unix:/tmp/card.sock --promiscuous | wireshark -k -i -',
    'vfio net bench sim:82576',
  ],
};
