/** Two devices in one address space, and two iommufds: iommufd-pt.txt. */
import { IommufdAsker, PG } from './asker.ts';

export class TwoDeviceQuestions extends IommufdAsker {
  ask(): void {
    const u = this.user;
    const { cdev, cdev2 } = this.subject;
    this.io = this.openIommu();
    const [d, e] = [this.openCdev(cdev), this.openCdev(cdev2)];
    const [d1, d2] = [this.bind(d, this.io, 'dev 1'), this.bind(e, this.io, 'dev 2')];
    const [a, b] = [this.ioas('a'), this.ioas('b')];
    const [p1, p2] = [this.attach(d, a, 'dev 1'), this.attach(e, a, 'dev 2 (same hwpt?)')];
    this.say(`  same auto hwpt: ${p1 === p2 ? 1 : 0}`);
    const h = this.hwpt(d1, a, 0, 'for dev 1');
    this.attach(e, h, 'dev 2 on the hwpt allocated with dev 1');
    this.attach(d, h, 'dev 1');
    this.ranges(a, 'a with both');
    const m = this.anon(4 * PG);
    this.map(a, 7, m, PG, 0x10_0000, '');
    this.detach(d, 'dev 1');
    this.unmap(a, 0x10_0000, PG, 'with dev 2 attached');
    this.destroy(a, 'with dev 2 attached');
    this.attach(d, b, 'dev 1 to b');
    this.copy(b, 0x10_0000, a, 0x10_0000, PG, 7, 'unmapped source');
    const io2 = this.openIommu();
    this.bind(e, io2, 'dev 2 fd in a second iommufd');
    const e2 = this.openCdev(cdev2);
    this.bind(e2, io2, 'second fd of dev 2, second iommufd');
    u.close(e);
    this.bind(e2, io2, 'after the first fd closed');
    const a2 = this.ioas('in iommufd 2', io2);
    this.attach(e2, a, 'dev 2 to an id of the other iommufd');
    this.attach(e2, a2, '');
    this.hwInfo(d2, 0, 0, 0, 0, 'freed device id in iommufd 1');
    this.map(a2, 7, m, PG, 0x10_0000, 'same va in the second iommufd', io2);
    this.map(b, 7, m, PG, 0x10_0000, 'same va in the first');
    this.vm();
  }
}
