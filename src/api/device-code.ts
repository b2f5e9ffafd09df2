/** The code of a served device, and a watch on its files. */
import { resolve } from 'node:path';
import { VfioError } from '../base/errno.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import type { Address } from './address.ts';
import { failureLines } from './failure-lines.ts';
import { attributeModel } from './foreign-context.ts';
import { importFileAnew } from './import-file.ts';
import { loadModel } from './simulation.ts';
import { WatchedFiles } from './watched-files.ts';
import { Wires } from './wires.ts';

export type ModelAddress = Extract<Address, { kind: 'model' | 'file' }>;

export class DeviceCode implements Disposable {
  onReload: ((model: DeviceModel) => void) | null = null;
  readonly #address: ModelAddress;
  /** Gets lines about reloads. */
  readonly #report: (line: string) => void;
  readonly #wires: Wires;
  #files: WatchedFiles | null = null;
  #reloading: Promise<void> = Promise.resolve();

  /** @param wires those of all devices that are served beside it */
  constructor(address: ModelAddress, report: (line: string) => void, wires: Wires = new Wires()) {
    this.#wires = wires;
    this.#address = address;
    this.#report = report;
  }

  async load(watch: boolean): Promise<DeviceModel> {
    if (!watch) return this.#own(await loadModel(this.#address, undefined, this.#wires));
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

  /** Faults of a user's model are the model's: a model of the package has no code of a user. */
  #own(model: DeviceModel): DeviceModel {
    return this.#address.kind === 'file' ? attributeModel(model) : model;
  }

  async #reload(path: string): Promise<void> {
    const err = this.#report;
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
