/**
 * The errors that flit mode counts, and that it can inject (PCI Express Base 6.0, 7.7.8 and
 * 7.8.14).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { type Register, registers } from '../decode/registers.ts';
import { choice } from '../decode/text.ts';
import { linkWidth } from './device3.ts';
import type { CapabilityKind } from './kind.ts';

const loggingIndent = '\t   ';
const lanes = Array.from({ length: 8 }, (_, i): Register => {
  const lane = (index: number, msb: number) => `${`Lane${index}:`.padEnd(8)}{Lane${index}=${msb}:${msb - 15} count}`;
  return { name: `MeasSts${i + 3}`, at: 0x1c + 4 * i, lines: [`${lane(2 * i, 15)}, ${lane(2 * i + 1, 31)}`], pad: 10 };
});

export const flitLogging: CapabilityKind = {
  id: ExtCapId.FLIT_LOGGING,
  extended: true,
  name: 'Flit Logging',
  decode: registers('Flit Logging', [
    {
      name: 'Log1',
      at: 4,
      pad: 10,
      indent: loggingIndent,
      lines: [
        'Valid{0}, Link Width: {Width=3:1 width}',
        'More entries{More=13} Unrecognized flit{Unrecognized=14} FEC uncorrectable{Uncorrectable=15}',
        'SyndParityGrp0: {23:16 hex2}, SyndCheckGrp0: {31:24 hex2}',
      ],
    },
    {
      name: 'Log2',
      at: 8,
      pad: 10,
      indent: loggingIndent,
      lines: ['SyndParityGrp1: {7:0 hex2}, SyndCheckGrp1: {15:8 hex2}', 'SyndParityGrp2: {23:16 hex2}, SyndCheckGrp2: {31:24 hex2}'],
    },
    {
      name: 'CntCtl',
      at: 12,
      width: 2,
      pad: 10,
      indent: loggingIndent,
      lines: [
        'Flit Error Counter En{CounterEn=0} Flit Error Counter Interrupt En{InterruptEn=1}',
        'Events to count: {Events=3:2}, Trigger Event on Error Count: {Trigger=11:4 hex2}',
      ],
    },
    {
      name: 'CntSts',
      at: 14,
      width: 2,
      pad: 10,
      indent: loggingIndent,
      lines: [
        'Link Width when Error Counter Started {Width=2:0 width}',
        'Interrupt Generated based on Trigger Event Count{Interrupt=3}, FlitErr: {15:8}',
      ],
    },
    { name: 'MeasCtl', at: 16, pad: 10, lines: ['En{0} Granularity: {3:2 granularity}'] },
    { name: 'MeasSts1', at: 20, pad: 10, lines: ['Flit Counter: {Flits=31:0}'] },
    { name: 'MeasSts2', at: 24, pad: 10, lines: ['Invalid Flit Counter: {InvalidFlits=15:0}'] },
    ...lanes,
  ]),
  choices: {
    width: linkWidth,
    granularity: choice(['all', 'even', 'odd', 'mismatch']),
    count: choice([], (value) => String(value).padStart(5)),
  },
};

const orderedSets: readonly (readonly string[])[] = [
  ['TS0', 'TS1', 'TS2'],
  ['SKP', 'EIEOS', 'EIOS'],
  ['SDS', 'Polling', 'Configuration'],
  ['L0', 'non-EQ recovery', 'Eq01'],
  ['Eq2', 'Eq3'],
];
/** Two bits for each ordered set and state, in order. */
const progress = (() => {
  let bit = 0;
  return orderedSets.map((row) =>
    row
      .map((name) => {
        const field = `${name}: {${name.replaceAll(' ', '')}=${bit + 1}:${bit} progress}`;
        bit += 2;
        return field;
      })
      .join(', '),
  );
})();
const injectionIndent = '\t      ';

export const flitErrorInjection: CapabilityKind = {
  id: ExtCapId.FLIT_ERROR_INJECTION,
  extended: true,
  name: 'Flit Error Injection',
  decode: registers('Flit Error Injection', [
    {
      name: 'FlitEiCtl1',
      at: 8,
      pad: 13,
      indent: injectionIndent,
      lines: [
        'En{0} Tx{1} Rx{2} 2.5GT/s{6} 5.0GT/s{7} 8.0GT/s{8} 16.0GT/s{9} 32.0GT/s{10} 64.0GT/s{11}',
        'Number of errors: {Errors=20:16}, Spacing between errors: {Spacing=28:21}, Flit Type: {Type=30:29 flitType}',
      ],
    },
    {
      name: 'FlitEiCtl2',
      at: 12,
      pad: 13,
      lines: ['Consecutive: {2:0 consecutive}, Type: {4:3 errorType}, Offset: {11:5}, Magnitude: {19:12}'],
    },
    { name: 'FlitEiSts', at: 16, pad: 13, lines: ['Tx: {1:0 progress}, Rx: {3:2 progress}'] },
    {
      name: 'FlitEiOsCtl1',
      at: 20,
      pad: 13,
      indent: injectionIndent,
      lines: [
        'En{0} Tx{1} Rx{2} TS0{16} TS1{17} TS2{18} SKP{19} EIEOS{20} EIOS{21}',
        'SDS{22} Poll{23} Conf{24} L0{25} NoEq{26} Eq01{27} Eq2{28} Eq3{29}',
      ],
    },
    { name: 'FlitEiOsCtl2', at: 24, pad: 13, lines: ['Bytes: {15:0 hex4}, Lanes: {31:16 hex4}'] },
    { name: 'FlitEiOsTx', at: 28, pad: 13, indent: injectionIndent, lines: progress },
    { name: 'FlitEiOsRx', at: 32, pad: 13, indent: injectionIndent, lines: progress },
  ]),
  choices: {
    flitType: choice(['any', 'non-IDLE', 'only payload', 'only NOP']),
    consecutive: choice(['none', '1', '2', '3', null, '5', '6', 'pseudo-random'], (value) => `Unknown (${value})`),
    errorType: choice(['random', 'correctable single group', 'correctable three groups', 'uncorrectable']),
    progress: choice(['not started', 'started', 'completed', 'error']),
  },
};
