// avatars.mjs STYLE COUNT FOLDER: draws faces of one of DiceBear's styles, 64x64 PNGs on a plain background, the same for the same name. make avatars calls it.
import { createAvatar } from '@dicebear/core';
import * as collection from '@dicebear/collection';
import { Resvg } from '@resvg/resvg-js';
import { writeFileSync } from 'node:fs';

const [style, count, folder] = process.argv.slice(2);
const camel = style.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
const backgroundColor = ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf', 'd5f0c9'];

for (let i = 0; i < Number(count); i++) {
    const svg = createAvatar(collection[camel], { seed: `${style}-${i}`, size: 64, backgroundColor }).toString();
    writeFileSync(`${folder}/${String(i).padStart(5, '0')}.png`, new Resvg(svg, { fitTo: { mode: 'width', value: 64 } }).render().asPng());
}
