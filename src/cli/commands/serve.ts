import { basename, dirname, extname, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { type Address, type AddressOptions, parseAddress } from '../../api/address.ts';
import { attributeModel, surviveForeignCode } from '../../api/foreign-context.ts';
import { importFileAnew } from '../../api/import-file.ts';
import { importMediators } from '../../api/import-mediator.ts';
import { readMachineFile } from '../../api/machine-file.ts';
import { DeviceServer, socketPathOf } from '../../api/serve.ts';
import { shellQuoted } from '../../api/shell-quoted.ts';
import { loadModel } from '../../api/simulation.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { Logger } from '../../base/log.ts';
import { printableLines } from '../../base/printable.ts';
import { parseSize } from '../../base/size.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { Mediators } from '../../engine/mediation/mediators.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { PipeStream } from '../../sys/pipe-stream.ts';
import { socketFromNumber, UnixListener } from '../../sys/unix-listener.ts';
import { socketAddress } from '../../sys/unix-socket.ts';
import type { ServerLimits } from '../../vfio-user/limits.ts';
import type { Session } from '../../vfio-user/session.ts';
import { attachLines } from '../attach-lines.ts';
import type { CommandContext } from '../command.ts';
import { Exit, failureLines } from '../exit-codes.ts';
import { RegisterTraffic } from '../register-traffic.ts';
import type { Terminal } from '../terminal.ts';
import { untilStopped } from '../until-stopped.ts';
import { WatchedFiles } from '../watched-files.ts';

interface Options {
  readonly socketPath?: string;
  readonly fd?: number;
  readonly stdio?: boolean;
  readonly watch?: boolean;
  readonly memlock?: number;
  readonly record?: string;
  readonly mediator?: readonly string[];
  readonly manage?: boolean;
  readonly allowAnyFile?: boolean;
  readonly maxSparse?: number;
  /** Those of `deviceOptions`. */
  readonly [name: string]: unknown;
}

/** What is said of the device itself: the same names as in `sim:nvme,image=disk.img`. A device that has no such option refuses it. */
const deviceOptions = (): readonly Option[] => [
  new Option('--image <file>', 'nvme: a disk image or block device; given again, the next namespace').argParser(
    (file: string, before: readonly string[] = []) => [...before, file],
  ),
  new Option('--size <size>', 'nvme: such as 10G; an image that is missing is made this large; in memory, 1G unless told'),
  new Option('--block-size <bytes>', 'nvme: of a logical block, 512 unless told').choices(['512', '4096']),
  new Option('--format <format>', 'nvme: the image is raw, though it looks like a qcow2, VMDK, VHDX … image').choices(['raw']),
  new Option('--readonly', 'nvme: the disk refuses writes, and the image can be shared').conflicts('overlay'),
  new Option('--overlay', 'nvme: what is written stays in memory, and the image as it is'),
];

type ModelAddress = Extract<Address, { kind: 'model' | 'file' }>;

export function serveCommand({ terminal, exit }: CommandContext): Command {
  const elsewhere = ['fd', 'stdio', 'socketPath'];
  const apart = (option: Option, name: string) => option.conflicts(elsewhere.filter((other) => other !== name));
  const serve = new Command('serve')
    .description('put a device behind a socket, for virtual machines and drivers (vfio-user)')
    .argument('<device>', 'nvme, edu, bench, a file with a device: ./my-device.ts, or a machine: ./machine.yaml')
    .addOption(apart(new Option('-s, --socket-path <path>', 'where; $XDG_RUNTIME_DIR/vfio-ts/NAME.sock unless told'), 'socketPath'))
    .addOption(
      apart(new Option('--fd <number>', 'a socket that this process was started with, listening or connected').argParser(number), 'fd'),
    )
    .addOption(apart(new Option('--stdio', 'one client, on standard input and output'), 'stdio'))
    .option('--watch', "load the device's code anew when it changes; clients are disconnected, and the next gets the new device")
    .addOption(
      new Option(
        '--memlock <size>',
        'how much memory a client may map, such as 2G or unlimited; its own RLIMIT_MEMLOCK unless told',
      ).argParser((text) => size(text, '--memlock')),
    )
    .option('--allow-any-file', "a client's memory may be a file of a disk, too; the file system behind such a file can stop the server")
    .addOption(
      new Option(
        '--max-sparse <size>',
        'how much memory without pages a client may map in all: the server makes them, and is charged',
      ).argParser((text) => size(text, '--max-sparse')),
    )
    .option('--no-manage', 'without the second socket, PATH.manage, through which vfio migrate moves the device')
    .option('--record <file>', 'write every access to registers there, a line of JSON each')
    .addOption(
      new Option('--mediator <file>', 'a mediator of your own (docs/mediation.md); given again, the next one to be asked')
        .argParser((file: string, before: readonly string[] = []) => [...before, file])
        // The recorder takes every device, and a device has one mediator.
        .conflicts('record'),
    );
  for (const option of deviceOptions()) serve.addOption(option);
  return serve
    .addHelpText(
      'after',
      `
Each client gets the device as it is after power-on. The socket has mode 0600. Goes on until it is told to stop (Ctrl-C, SIGTERM, SIGHUP).

Examples:
  vfio serve nvme --image disk.img --size 10G
  vfio serve nvme --image debian.img --overlay
  vfio serve edu --record traffic.jsonl
  vfio serve edu --mediator ./counter.ts
  vfio serve ./examples/hello-device.ts --socket-path /tmp/hello.sock --watch
  vfio serve examples/machines/sriov.yaml --socket-path /tmp/card

A machine has a socket for each function that vfio-pci drives, in the directory that --socket-path names; it stays as clients come and go.`,
    )
    .action(async (text: string, options: Options) => {
      exit(await (/\.ya?ml$/.test(text) ? serveMachineUntilStopped(text, options, terminal) : serveUntilStopped(text, options, terminal)));
    });
}

async function serveUntilStopped(text: string, options: Options, terminal: Terminal): Promise<number> {
  const address = withDeviceOptions(modelAddress(text), options);
  const name = address.kind === 'model' ? address.name : basename(address.path, extname(address.path));
  const path = options.fd === undefined && options.stdio !== true ? resolve(options.socketPath ?? socketPathOf(name)) : null;
  // Not later: somebody may stop us as soon as the socket is there.
  using stop = untilStopped();
  using _log = terminal.serve();
  using _survive = surviveForeignCode(logTo(terminal));
  using undo = new Cleanup();
  const code = undo.use(new DeviceCode(address, terminal));
  const traffic = options.record === undefined ? null : undo.use(new RegisterTraffic(options.record, terminal.err));
  const server = undo.use(
    new DeviceServer(await code.load(options.watch === true), {
      name,
      log: logTo(terminal),
      manage: options.manage ?? true,
      limits: clientLimits(options),
      ...(options.memlock === undefined ? {} : { memlockLimit: options.memlock }),
      ...(await mediatorsOf(options, traffic)),
    }),
  );
  code.onReload = (model) => server.replace(model);
  let only: Session | null = null;
  if (path !== null) {
    server.listen(path);
    announce(path, terminal);
  } else if (options.fd !== undefined) {
    const socket = socketFromNumber(options.fd);
    if (socket instanceof UnixListener) server.accept(socket);
    else only = server.serve(socket);
  } else only = server.serve(PipeStream.stdio());
  if (only === null) return await stop.told;
  return await Promise.race([stop.told, only.ended.then(() => Exit.OK)]);
}

async function serveMachineUntilStopped(file: string, options: Options, terminal: Terminal): Promise<number> {
  const { fd, stdio, watch, memlock, record, manage = true } = options;
  refuseDeviceOptions(options, `${file} is a machine, which says itself what its devices are`);
  if (fd !== undefined || stdio === true || watch === true) {
    throw new VfioError('EINVAL', `${file} is a machine, which has sockets of its own`, { fix: 'Say where with --socket-path DIRECTORY.' });
  }
  const directory = resolve(options.socketPath ?? socketPathOf(basename(file, extname(file))).replace(/\.sock$/, ''));
  using stop = untilStopped();
  using _log = terminal.serve();
  const { importMachine } = await import('../../api/machine.ts');
  const { MachineServer } = await import('../../api/machine-server.ts');
  const log = logTo(terminal);
  using _survive = surviveForeignCode(log);
  using undo = new Cleanup();
  const traffic = record === undefined ? null : undo.use(new RegisterTraffic(record, terminal.err));
  let served: Machine | null = null;
  const bindCommand = (bdf: string, driver: string) => adminBind(directory, bdf, driver, served?.functions.get(bdf)?.driver ?? null);
  const mediated = await mediatorsOf(withMediatorsOf(file, options), traffic);
  const machine = undo.use(await importMachine(file, { log, bindCommand, ...mediated }));
  served = machine;
  const server = undo.use(
    new MachineServer(machine, directory, {
      log,
      manage,
      limits: clientLimits(options),
      ...(memlock === undefined ? {} : { memlockLimit: memlock }),
    }),
  );
  for (const bdf of server.functions) {
    const { name, physical } = machine.function(bdf);
    terminal.out(
      `unix:${server.pathOf(bdf)}  ${name}${physical?.vfio == null ? '' : ', with the VF token that the driver of its PF sets'}`,
    );
  }
  terminal.err(`listening at ${directory}`);
  return await stop.told;
}

/** The way to give a function of a served machine another driver: by its administrator. */
function adminBind(directory: string, bdf: string, driver: string, before: string | null): string {
  const admin = `vfio admin ${shellQuoted(directory)}`;
  const steps = [...(before === null ? [] : [`${admin} unbind ${bdf}`]), ...(driver === 'none' ? [] : [`${admin} bind ${bdf} ${driver}`])];
  return steps.join(' && ');
}

/** Those that the machine file names come first. @throws VfioError EINVAL with --record, whose recorder takes every device */
function withMediatorsOf(file: string, options: Options): Options {
  const named = (readMachineFile(file).mediators ?? []).map((path) => resolve(dirname(file), path));
  if (named.length === 0) return options;
  if (options.record !== undefined) {
    throw new VfioError('EINVAL', `${file} has mediators of its own, and --record is another: a device has one`, {
      fix: 'Leave one of them out.',
    });
  }
  return { ...options, mediator: [...named, ...(options.mediator ?? [])] };
}

async function mediatorsOf({ mediator }: Options, traffic: RegisterTraffic | null): Promise<{ readonly mediators?: Mediators }> {
  if (traffic !== null) return { mediators: traffic.mediators };
  return mediator === undefined ? {} : { mediators: await importMediators(mediator) };
}

function modelAddress(text: string): ModelAddress {
  const address = parseAddress(/^(sim|unix):/.test(text) ? text : `sim:${text}`);
  if (address.kind === 'model' || address.kind === 'file') return address;
  throw new VfioError('EINVAL', `${text} is not a device to serve`, {
    fix: "Give 'nvme', 'edu', 'bench', or a file such as './my-device.ts'.",
  });
}

function withDeviceOptions(address: ModelAddress, options: Options): ModelAddress {
  if (address.kind === 'file') {
    refuseDeviceOptions(options, `${address.path} is a device of your own`);
    return address;
  }
  const said = givenDeviceOptions(options).map((option) => [option.attributeName(), options[option.attributeName()]] as const);
  return { ...address, options: { ...address.options, ...(Object.fromEntries(said) as AddressOptions) } };
}

function givenDeviceOptions(options: Options): readonly Option[] {
  return deviceOptions().filter((option) => options[option.attributeName()] !== undefined);
}

function refuseDeviceOptions(options: Options, why: string): void {
  const [first] = givenDeviceOptions(options);
  if (first !== undefined) throw new VfioError('EINVAL', `${first.long} is for devices that come with the package: ${why}`);
}

function announce(path: string, { out, err, paint }: Terminal): void {
  // In the form that clients must write: for a path that is too long for a socket, the way from
  // here.
  const address = socketAddress(path);
  for (const { title, command } of attachLines(address)) {
    out(paint.dim(`# ${title}`));
    out(command);
    out('');
  }
  err(
    address === path
      ? `listening at ${path}`
      : `listening at ${path}, which is too long for others: they connect to ${address} from ${process.cwd()}`,
  );
}

/** What clients do is told too: whoever serves a device wants to see them come and go. */
function logTo({ err }: Terminal): Logger {
  return {
    log: (level, message) => {
      if (level !== 'debug') for (const line of printableLines(level === 'info' ? message : `${level}: ${message}`)) err(line);
    },
  };
}

/** The code of the device, and a watch on it. */
class DeviceCode implements Disposable {
  onReload: ((model: DeviceModel) => void) | null = null;
  readonly #address: ModelAddress;
  readonly #terminal: Terminal;
  #files: WatchedFiles | null = null;
  #reloading: Promise<void> = Promise.resolve();

  constructor(address: ModelAddress, terminal: Terminal) {
    this.#address = address;
    this.#terminal = terminal;
  }

  async load(watch: boolean): Promise<DeviceModel> {
    if (!watch) return this.#own(await loadModel(this.#address));
    if (this.#address.kind === 'model') {
      throw new VfioError('EINVAL', `${this.#address.name} comes with the package: there is no file to watch`);
    }
    this.#files = new WatchedFiles((path) => {
      this.#reloading = this.#reloading.then(() => this.#reload(path));
    });
    this.#files.add(resolve(this.#address.path));
    return await this.#loadAnew();
  }

  async #loadAnew(): Promise<DeviceModel> {
    return this.#own(await loadModel(this.#address, (path) => importFileAnew(path, (file) => this.#files?.add(file))));
  }

  /** A model of the user's may fail by itself; a model of the package has no code that could. */
  #own(model: DeviceModel): DeviceModel {
    return this.#address.kind === 'file' ? attributeModel(model) : model;
  }

  async #reload(path: string): Promise<void> {
    const { err } = this.#terminal;
    try {
      const model = await this.#loadAnew();
      if (this.#files === null) return;
      this.onReload?.(model);
      err(`${path} has changed: the next client gets the new device`);
    } catch (error) {
      const [first, ...more] = failureLines(error);
      err(`${path} has changed, and the old device goes on: ${first}`);
      for (const line of more) err(line);
    }
  }

  [Symbol.dispose](): void {
    this.#files?.[Symbol.dispose]();
    this.#files = null;
  }
}

function clientLimits({ allowAnyFile, maxSparse }: Options): Partial<ServerLimits> {
  return { anyFile: allowAnyFile ?? false, ...(maxSparse === undefined ? {} : { maxSparseBytes: maxSparse }) };
}

function number(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new VfioError('EINVAL', `--fd is '${text}'; give the number of a descriptor`);
}

function size(text: string, option: string): number {
  if (text === 'unlimited') return Number.POSITIVE_INFINITY;
  return parseSize(text, option);
}
