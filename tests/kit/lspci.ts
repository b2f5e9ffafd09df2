/**
 * The real lspci for comparisons; LSPCI names another one than that in PATH. The decoder prints the
 * text of lspci 3.14. For older versions a table says how they print the same lines, and which
 * capabilities they do not decode; those are not compared. Another table holds the intended
 * differences of the decoder.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toHex } from '../../src/pci/hex-dump.ts';

export interface Sample {
  readonly bdf: string;
  readonly bytes: Uint8Array;
}

type Version = readonly [major: number, minor: number];

const binary = process.env.LSPCI ?? 'lspci';
const text = spawnSync(binary, ['--version'], { encoding: 'utf8' }).stdout?.match(/version (\S+)/)?.[1];
export const lspciVersion: Version | null = text === undefined ? null : [Number(text.split('.')[0]), Number(text.split('.')[1])];
const OLDEST: Version = [3, 9];
const before = (a: Version, b: Version) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
export const comparable = lspciVersion !== null && !before(lspciVersion, OLDEST);
export const lspciWhy =
  text === undefined ? 'skipped: no lspci, install pciutils' : comparable ? `lspci ${text}` : `skipped: lspci ${text} is older than 3.9`;

const hex = (digits: number) => (_: string, number: string) => Number(number).toString(16).padStart(digits, '0');

/** How versions before `since` print the same content. */
const olderForms: readonly { readonly since: Version; readonly older: (text: string) => string }[] = [
  {
    since: [3, 14],
    older: (t) =>
      t
        .replaceAll(/ FltModeDis[+-]$/gm, '')
        .replaceAll(/(CrosslinkRes: .*), FltMode[+-]/g, '$1')
        .replaceAll(', FLIT Mode Supported', ''),
  },
  {
    since: [3, 13],
    older: (t) =>
      t
        .replaceAll(/(MalfTLP[+-])\n\t\t\t(ECRC[+-] UnsupReq[+-] ACSViol[+-]).*\n\t\t\tPoison.*/g, '$1 $2')
        .replaceAll(/(AdvNonFatalErr[+-]) CorrIntErr[+-] HeaderOF[+-]/g, '$1'),
  },
  { since: [3, 12], older: (t) => t.replaceAll(/ TEE-IO[+-]$/gm, '') },
  {
    since: [3, 11],
    older: (t) =>
      t
        .replaceAll(/(Express .*), IntMsgNum (\d+)/g, (_, title, n) => `${title}, MSI ${hex(2)('', n)}`)
        .replaceAll(/(FatalMsg[+-]) IntMsgNum (\d+)/g, '$1 IntMsg $2')
        .replaceAll(/(10BitTagReq[+-]) IntMsgNum (\d+)/g, (_, bits, n) => `${bits} Interrupt Message Number: ${hex(3)('', n)}`)
        .replaceAll(/(DpcCap:\t)IntMsgNum (\d+)/g, '$1INT Msg #$2')
        .replaceAll(/^\t\t\tIntMsgNum (\d+)/gm, (_, n) => `\t\t\tInterrupt Message Number ${hex(3)('', n)}`)
        .replaceAll(/ LnkDisable([+-])/g, ' Disabled$1')
        .replaceAll(
          /(DevCtl2: .* TimeoutDis[+-])( ARIFwd[+-])?(\n.*AtomicOpsCtl.*)?\n.* (LTR[+-]).*\n\t\t\t (10BitTagReq.*,) EETLP.*/g,
          '$1 $4 $5$2$3',
        )
        .replaceAll(/(Requester|Responder|Enabled|Root|RootSelected)([+-])(?=$| (?:Responder|Root))/gm, '$1:$2')
        .replaceAll(/(Stopped[+-]) PASID[+-]/g, '$1')
        .replaceAll(/(Speeds: )2\.5-64GT\/s/g, '$1RsvdP'),
  },
];

/**
 * Capabilities that versions before `since` print differently: by a pattern of their first line.
 */
const decodedSince: readonly { readonly since: Version; readonly title: RegExp }[] = [
  { since: [3, 11], title: /Lane Margining/ },
  { since: [3, 12], title: /Integrity & Data Encryption/ },
  { since: [3, 14], title: /: Intel |SharedMemory|Physical Layer|Device 3$|Vendor=1e98|MMIO Register|Flit (Logging|Error)|Multicast/ },
];
/** Decoded after the release of 3.14. */
const afterRelease = /Flit (Logging|Error)|MMIO Register|Vendor=1e98|Integrity & Data/;

interface Difference {
  readonly why: string;
  readonly same: (text: string) => string;
}

/**
 * Places where lspci prints a value that is not the register's: both texts are compared without it.
 */
export const onPurpose: readonly Difference[] = [
  { why: 'HyperTransport frequencies have 16 bits, it reads 8', same: (t) => t.replaceAll(/ 1\.4GHz[+-] 1\.6GHz[+-] Vend[+-]/g, '') },
  {
    why: 'sizes of 2^31 bytes and more overflow its integers',
    same: (t) => t.replaceAll(/((?:WindowSz|OverlaySize) (?:3[1-9]|[4-6]\d)) \(.*? bytes\)/g, '$1'),
  },
  {
    why: 'windows of 4 PiB and more overflow too',
    same: (t) => t.replaceAll(/( behind bridge: [0-9a-f]+-[0-9a-f]+ \[size=)[^\]]*/g, '$1'),
  },
  { why: '128 GT/s is 7 (bit 6 of the vector), it says 8', same: (t) => t.replaceAll(/(Speed:? )(?:128GT\/s|[uU]nknown)/g, '$1') },
  {
    why: '128 GT/s was reserved when 3.14 was released',
    same: (t) => t.replaceAll(/(Supported Link Speeds: )(?:2\.5-128GT\/s|RsvdP)/g, '$1'),
  },
  { why: 'PCRC of a link stream is bit 8, it reads bit 0', same: (t) => t.replaceAll(/(LinkIDE#\d Ctl.*) PCRC[+-]/g, '$1') },
  {
    why: 'it takes bit numbers of CXL for masks',
    same: (t) => t.replaceAll(/^(\t\t(?:CXLCtl2|CXLPortSta|CXLCap3):).*/gm, '$1'),
  },
  { why: 'a CXL function map has 32 bits, it reads 16', same: (t) => t.replaceAll(/(FuncMap \d: )[0-9a-f]+/g, '$1') },
  {
    why: 'reserved codes of a CXL range lead outside of its tables',
    same: (t) => t.replaceAll(/^(\t\t\tValid[+-] Active[+-]) Type=.*/gm, '$1').replaceAll(/^(\t\tRange\d:).*/gm, '$1'),
  },
  { why: 'the interrupt bit of flit counting is bit 3, it reads bit 2', same: (t) => t.replaceAll(/(Event Count)[+-]/g, '$1') },
  { why: 'memory clocks of Intel bridges come out as 0', same: (t) => t.replaceAll(/(DDR4MaxFreq=)\d+MHz/g, '$1') },
  {
    why: 'a range of devices that ends with 31 has no end there',
    same: (t) => t.replaceAll(/(RCiEP at Device\(s\):.*?)(?:-31)?$/gm, '$1'),
  },
  {
    why: 'a locator of no length has no blocks, it reads on to the end',
    same: (t) => t.replaceAll(/^\t\t(?:Locator\d+: .*|<unreadable>)\n/gm, ''),
  },
  { why: 'DOE’s error bit is bit 2; 3.9 reads another', same: (t) => t.replaceAll(/(DOESta: .*) Error[+-]/g, '$1') },
];

/**
 * A version of lspci against the decoder: `mine` as that version would print it, and `theirs`, both
 * without the parts that are not compared.
 */
export function likewise(mine: string, theirs: string): { readonly mine: string; readonly theirs: string } {
  const version = lspciVersion ?? OLDEST;
  const left = decodedSince.filter(({ since }) => before(version, since)).map(({ title }) => title);
  if (!before([3, 14], version)) left.push(afterRelease);
  const skipped = new Set<string>();
  for (const line of mine.split('\n')) {
    const at = /^\tCapabilities: \[([^\]]+)\] (.*)/.exec(line);
    if (at !== null && left.some((title) => title.test(at[2]!))) skipped.add(at[1]!);
  }
  const without = (t: string): string => {
    let skipping = false;
    return t
      .split('\n')
      .filter((line) => {
        const at = /^\tCapabilities: \[([^\]]+)\]/.exec(line)?.[1];
        if (at !== undefined) skipping = skipped.has(at);
        return !skipping;
      })
      .join('\n');
  };
  const older = olderForms.filter(({ since }) => before(version, since)).reduce((t, { older: form }) => form(t), without(mine));
  const common = (t: string) => onPurpose.reduce((u, { same }) => same(u), t);
  return { mine: common(older), theirs: common(upperHalves(without(theirs), mine)) };
}

/** lspci -F prints the upper half of a 64-bit address as a region of its own. */
function upperHalves(theirs: string, mine: string): string {
  const regions = new Set([...mine.matchAll(/^\tRegion \d:/gm)].map(([line]) => line));
  return theirs
    .split('\n')
    .filter((line) => {
      const region = /^\tRegion \d:/.exec(line)?.[0];
      return region === undefined || regions.has(region);
    })
    .join('\n');
}

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-lspci-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** Debian's place for names: both read it. */
export const database = '/usr/share/misc/pci.ids';

/** Without the names of udev's own database, which we do not read. */
function withoutUdev(): readonly string[] {
  const { stdout } = spawnSync(binary, ['-O', 'help'], { encoding: 'latin1' });
  return stdout.includes('hwdb.disable') ? ['-O', 'hwdb.disable=1'] : [];
}

/**
 * lspci's text for each sample, in their order; null where it gave up, since it ends at a register
 * that a dump does not hold.
 */
export function lspci(samples: readonly Sample[], level: 0 | 1 | 2 | 3, numeric: boolean): (string | null)[] {
  const file = join(folder, `dump-${process.pid}.txt`);
  const args = [
    '-D',
    '-F',
    file,
    ...(existsSync(database) ? ['-i', database, ...withoutUdev()] : []),
    ...(numeric ? ['-n'] : []),
    ...(level > 0 ? [`-${'v'.repeat(level)}`] : []),
  ];
  const found: (string | null)[] = [];
  while (found.length < samples.length) {
    const rest = samples.slice(found.length);
    writeFileSync(file, rest.map(({ bytes, bdf }) => toHex(bytes, bdf)).join(''));
    const { stdout, stderr, status } = spawnSync(binary, args, { encoding: 'latin1', maxBuffer: 2 ** 28 });
    const blocks = stdout.trimEnd().split(level === 0 ? '\n' : '\n\n');
    found.push(...blocks);
    if (status !== 0 || stderr.includes('Internal bug')) found[found.length - 1] = null;
  }
  return found;
}
