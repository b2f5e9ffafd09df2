import { formatNames } from '../../events/printers/format-files.ts';
import type { CommandSpec } from '../command.ts';
import { eventKinds } from '../event-options.ts';
import { file, integer, moment, names, oneOf } from '../values.ts';

export const events: CommandSpec = {
  name: 'events',
  summary: 'convert, filter and count recorded events',
  arguments: [
    { name: '<file>', help: 'events as JSON lines: FILE.jsonl, also .gz; - is standard input', kind: file('.jsonl', '.gz', '.zst') },
  ],
  options: [
    { flags: '-a, --as <format>', help: 'the format. Default: that which OUT says, else text', kind: oneOf([...formatNames, 'digest']) },
    { flags: '-o, --output <out>', help: 'the file to write; - is standard output', kind: file(), default: '-' },
    { flags: '-k, --kinds <kinds>', help: 'events of these kinds alone, such as access,dma', kind: eventKinds },
    { flags: '-d, --devices <devices>', help: 'events of these devices alone, with commas between them', kind: names },
    { flags: '--from <time>', help: 'events from this time on, counted from the first event: 1.5, 20ms, 300us', kind: moment },
    { flags: '--to <time>', help: 'events up to this time', kind: moment },
    {
      flags: '-c, --cause <seq>',
      help: 'the event with this number, and all that it led to',
      kind: integer(1, Number.MAX_SAFE_INTEGER),
    },
    { flags: '--stats', help: 'print how many events of each kind each device has', conflicts: ['as', 'output'] },
    { flags: '-f, --follow', help: 'wait for more at the end of the file, until Ctrl-C' },
  ],
  notes: [
    'Formats: text has lines for people, jsonl one object a line, pcapng vfio-user messages for Wireshark, perfetto a timeline for ui.perfetto.dev, vcd waveforms for GTKWave. digest prints the SHA-256 of the events without times of the host, and one for each device: two runs that did the same have the same.',
    'A file that breaks off, because its writer was killed, is read up to its last whole event.',
  ],
  examples: [
    'vfio events run.jsonl --kinds dma-refused,reset',
    'vfio events run.jsonl --output run.pftrace',
    'vfio events run.jsonl.gz --devices 0000:00:04.0 --from 20ms --to 30ms',
    'vfio events run.jsonl --as jsonl --follow | jq .latencyNs',
  ],
  run: async () => (await import('../events/convert.ts')).convertEvents,
};
