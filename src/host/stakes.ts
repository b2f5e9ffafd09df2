/**
 * Reasons why the computer, or the person at it, needs a function: its disk is mounted, its display
 * shows the console, its network card carries the default route. A command that would take such a
 * function away refuses.
 */
import type { HostFiles } from '../sys/host-files.ts';
import { functionFolder } from './function-state.ts';
import { hostMounts, zfsCandidates } from './host-mounts.ts';
import { behindLink, functionOnPath, functionsOfPath, nameIn } from './host-path.ts';
import { carriersOf, defaultInterfaces, hostInterfaces, interfaceTo } from './host-routes.ts';

export type StakeKind = 'file-system' | 'swap' | 'route' | 'session' | 'network' | 'display' | 'console' | 'keyboard';

/** One reason. */
export interface Stake {
  readonly bdf: string;
  readonly kind: StakeKind;
  /** True: the computer would not go on as before, and binds refuse. False: a remark. */
  readonly severe: boolean;
  /** As in `it …`: `holds / (ext4)`. */
  readonly what: string;
}

export interface StakeOptions {
  /** The address from which the administrator is logged in by ssh; null for none. */
  readonly sshClient?: string | null;
}

/** Reasons by function. A function that is not needed has no entry. */
export function stakesOf(files: HostFiles, options: StakeOptions = {}): ReadonlyMap<string, readonly Stake[]> {
  const all = [
    ...diskStakes(files),
    ...networkStakes(files, options),
    ...displayStakes(files),
    ...consoleStakes(files),
    ...inputStakes(files),
  ];
  const found = new Map<string, Stake[]>();
  for (const stake of all) {
    const there = found.get(stake.bdf);
    if (there === undefined) found.set(stake.bdf, [stake]);
    else if (!there.some(({ what }) => what === stake.what)) there.push(stake);
  }
  return found;
}

function diskStakes(files: HostFiles): readonly Stake[] {
  const mounts = hostMounts(files).flatMap(({ at, type, functions, servers }) => {
    const kind = at === 'swap' ? 'swap' : 'file-system';
    const what = at === 'swap' ? 'swap that is in use' : `${at} (${type})`;
    const own = functions.map((bdf): Stake => ({ bdf, kind, severe: true, what: `holds ${what}` }));
    const remote = servers.flatMap((server) => {
      const name = interfaceTo(files, server);
      const carriers = name === null || name === 'lo' ? [] : carriersOf(files, name).functions;
      return carriers.map((bdf): Stake => ({ bdf, kind, severe: true, what: `carries ${what}, which ${server} has (${name})` }));
    });
    return [...own, ...remote];
  });
  const pools = zfsCandidates(files).map((bdf): Stake => ({ bdf, kind: 'file-system', severe: true, what: 'may hold a pool of ZFS' }));
  return [...mounts, ...pools];
}

function networkStakes(files: HostFiles, { sshClient = null }: StakeOptions): readonly Stake[] {
  const interfaces = hostInterfaces(files);
  const defaults = defaultInterfaces(files);
  const session = sshClient === null ? null : interfaceTo(files, sshClient);
  const carries = (names: readonly string[], kind: StakeKind, what: string) => {
    const all = names.map((name) => ({ name, ...carriersOf(files, name) }));
    // A tunnel beside a card goes through the card.
    const sure = all.filter((one) => one.sure);
    return (sure.length > 0 ? sure : all).flatMap(({ name, functions, sure: isSure }) =>
      functions.map((bdf): Stake => ({ bdf, kind, severe: true, what: `${isSure ? 'carries' : 'may carry'} ${what} (${name})` })),
    );
  };
  const up = [...interfaces.keys()].filter(
    (name) => !defaults.includes(name) && files.text(`/sys/class/net/${name}/operstate`)?.trim() === 'up',
  );
  return [
    ...carries(defaults, 'route', 'the default route'),
    ...(session === null || session === 'lo' ? [] : carries([session], 'session', `the ssh session from ${sshClient}`)),
    ...up.flatMap((name) =>
      interfaces
        .get(name)!
        .map((bdf): Stake => ({ bdf, kind: 'network', severe: false, what: `has the network interface ${name}, which is up` })),
    ),
  ];
}

/** Displays: with a monitor that shows a picture, or with the text console in its frame buffer. */
function displayStakes(files: HostFiles): readonly Stake[] {
  const found: Stake[] = [];
  const add = (path: string | null, severe: boolean, what: string): void => {
    for (const bdf of path === null ? [] : functionsOfPath(path)) found.push({ bdf, kind: 'display', severe, what });
  };
  for (const name of files.list('/sys/class/drm')) {
    const connector = /^card\d+-(.+)$/.exec(name)?.[1];
    if (connector === undefined) continue;
    const at = `/sys/class/drm/${name}`;
    const shows = files.text(`${at}/status`)?.trim() === 'connected' && files.text(`${at}/enabled`)?.trim() === 'enabled';
    if (shows) add(behindLink(files, at), true, `drives the display at ${connector}`);
  }
  for (const name of files.list('/sys/class/graphics')) {
    if (/^fb\d+$/.test(name)) add(behindLink(files, `/sys/class/graphics/${name}`), true, `shows the console (${name})`);
  }
  for (const bdf of files.list('/sys/bus/pci/devices')) {
    if (files.text(`${functionFolder(bdf)}/boot_vga`)?.trim() !== '1') continue;
    const driver = files.link(`${functionFolder(bdf)}/driver`);
    const ours = driver !== null && nameIn(driver) === 'vfio-pci';
    add(`/${bdf}`, !ours, 'is the display that the firmware uses (boot_vga)');
  }
  return found;
}

/** Serial consoles of the kernel on PCI cards. */
function consoleStakes(files: HostFiles): readonly Stake[] {
  return (files.text('/sys/class/tty/console/active') ?? '').split(/\s+/).flatMap((name): readonly Stake[] => {
    const at = name === '' || /^tty\d*$/.test(name) ? null : behindLink(files, `/sys/class/tty/${name}`);
    const what = `is a console of the kernel (${name})`;
    return (at === null ? [] : functionsOfPath(at)).map((bdf) => ({ bdf, kind: 'console', severe: true, what }));
  });
}

/** linux/input-event-codes.h: KEY_ENTER and KEY_A, which keyboards have and buttons have not. */
const KEYBOARD_KEYS = (1n << 28n) | (1n << 30n);

function inputStakes(files: HostFiles): readonly Stake[] {
  const keyboards = files.list('/sys/class/input').flatMap((name) => {
    if (!/^input\d+$/.test(name)) return [];
    const at = `/sys/class/input/${name}`;
    const keys = files.text(`${at}/capabilities/key`)?.trim().split(/\s+/).at(-1);
    if (keys === undefined || !/^[0-9a-f]+$/.test(keys) || (BigInt(`0x${keys}`) & KEYBOARD_KEYS) !== KEYBOARD_KEYS) return [];
    const path = behindLink(files, at);
    return [{ bdf: path === null ? null : functionOnPath(path), label: files.text(`${at}/name`)?.trim() ?? name }];
  });
  const places = new Set(keyboards.map(({ bdf }) => bdf));
  return keyboards.flatMap(({ bdf, label }): readonly Stake[] =>
    bdf === null
      ? []
      : [
          {
            bdf,
            kind: 'keyboard',
            severe: places.size === 1,
            what: places.size === 1 ? `has the only keyboard (${label})` : `has a keyboard (${label})`,
          },
        ],
  );
}

/** One sentence about all reasons: `it holds / (ext4), and carries …`. */
export function stakesSentence(stakes: readonly Stake[]): string {
  const whats = stakes.map(({ what }) => what);
  return whats.length <= 1 ? (whats[0] ?? '') : `${whats.slice(0, -1).join(', ')} and ${whats.at(-1)}`;
}
