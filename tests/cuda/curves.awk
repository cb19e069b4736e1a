# tests/cuda/curves.awk CPU_LOG CUDA_LOG: the losses of D and G (log.csv of 01_dcgan: step,D,G) as
# an SVG picture: the first log's as wide lines, the second's as thin dark ones on top.
BEGIN {
    FS = ","; width = 900; height = 420
    split("#9ec9f0 #f5b895 #0b4f8a #a33b00", colour, " ")
    split("cpu_D cpu_G cuda_D cuda_G", name, " ")
}
FNR == 1 { file++; next }
{
    for (k = 0; k < 2; k++) {
        value[2 * file - 1 + k, $1] = $(k + 2)
        if ($(k + 2) > most) most = $(k + 2)
    }
    if ($1 + 0 > last) last = $1 + 0
}
END {
    if (!last || !most) exit 1
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" ", width, height
    print "font-family=\"sans-serif\" font-size=\"12\">"
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    for (id = 1; id <= 4; id++) {
        printf "<text x=\"%d\" y=\"16\" fill=\"%s\">%s</text>\n", 60 + 80 * id, colour[id], name[id]
        printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%d\" points=\"", colour[id],
               id < 3 ? 3 : 1
        for (s = 0; s <= last; s++)
            if ((id, s) in value)
                printf "%.1f,%.1f ", 40 + s / last * (width - 60),
                       height - 24 - value[id, s] / most * (height - 60)
        print "\"/>"
    }
    for (t = 0; t <= 4; t++) {
        printf "<text x=\"4\" y=\"%d\">%.1f</text>", height - 20 - t / 4 * (height - 60),
               most * t / 4
        printf "<text x=\"%d\" y=\"%d\">%d</text>\n", 34 + t / 4 * (width - 70), height - 6,
               last * t / 4
    }
    print "</svg>"
}
