//! How does a test get a Docker Engine of its own, and how is nothing left of it?
//!
//! The engine runs in namespaces: its bridges and its firewall are of a network that is not the machine's, so the ports it
//! publishes are nobody else's; its files are in memory that only it sees. All of it is gone when its first process is, and
//! that ends when our end of a pipe to it is closed, by whatever ends us. What is not in a namespace are control groups;
//! a shell outside removes them.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::tools::{self, workspace};

/// Outside. Arguments: the control group, the script for inside, and its arguments.
const OUTSIDE: &str = r#"
trap : HUP INT QUIT TERM
group=$1; inside=$2; shift 2
unshare --mount --net --pid --ipc --uts --fork --kill-child sh -c "$inside" inside "$group" "$@"
status=$?
find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null
exit $status
"#;

/// Inside. Arguments: the control group, the tree with the programs, the directory of the libraries in it.
const INSIDE: &str = r#"
set -eu
group=$1; tree=$2; export LD_LIBRARY_PATH=$3 XTABLES_LIBDIR=$3/xtables
export PATH="$tree/usr/bin:$tree/usr/sbin:$tree/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Its number outside, as long as /proc is the one of outside.
read -r pid _ </proc/self/stat
mount -t proc proc /proc
# Over the machine's: an engine there has its socket here, and would be taken for ours.
mount -t tmpfs -o mode=755 "$group" /run
# The engine looks for its bridges in /sys, which shows those of the network it was mounted in.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
busybox=$tree/bin/busybox; [ -x "$busybox" ] || busybox=$tree/usr/bin/busybox
"$busybox" ip link set lo up
# `container`: profiles of AppArmor would be loaded into the machine's kernel, and stay.
(container=tollgate dockerd -H unix:///run/docker.sock --data-root /run/data --exec-root /run/exec \
    --pidfile /run/dockerd.pid --bridge none --cgroup-parent "/$group" \
    --exec-opt native.cgroupdriver=cgroupfs >/run/dockerd.log 2>&1; echo >/run/ended) &
until [ -S /run/docker.sock ] || [ -e /run/ended ]; do sleep 0.05; done
docker -H unix:///run/docker.sock version >/dev/null || { tail -n 3 /run/dockerd.log; exit 1; }
echo "ready $pid"
exec cat >/dev/null
"#;

/// A Docker Engine that runs, and ends with this value.
#[derive(Debug)]
pub struct Engine {
    outside: Child,
    /// `None` once it has been told to end.
    leash: Option<ChildStdin>,
    first_process: String,
    group: String,
    tree: PathBuf,
    compose: PathBuf,
}

impl Engine {
    /// Starts one. The first time, this downloads what it needs.
    ///
    /// # Errors
    /// This machine has no packages for it, we are not root and cannot be, or its kernel does not let an engine run.
    pub fn start() -> Result<Self> {
        ensure!(cfg!(target_os = "linux"), "Docker Engine runs on Linux");
        let (tree, compose) = (tools::container_packages()?, tools::compose()?);
        let group = format!("tollgate-engine-{}", std::process::id());
        let mut command = root()?;
        command.args(["sh", "-c", OUTSIDE, "outside", &group, INSIDE]).arg(&tree).arg(libraries(&tree)?);
        let mut outside = command
            .current_dir(workspace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("no shell")?;
        let leash = outside.stdin.take();
        let said = outside.stdout.take().context("piped")?;
        let mut engine = Self { outside, leash, first_process: String::new(), group, tree, compose };
        let mut lines = Vec::new();
        for line in BufReader::new(said).lines() {
            let line = line?;
            if let Some(pid) = line.strip_prefix("ready ") {
                pid.clone_into(&mut engine.first_process);
                return Ok(engine);
            }
            lines.push(line);
        }
        let errors = engine.outside.stderr.take().context("piped")?;
        lines.extend(BufReader::new(errors).lines().map_while(Result::ok));
        bail!("Docker Engine does not start: {}", lines.join("; "))
    }

    /// A command that runs where the engine does: in its network, where it publishes ports, from the workspace's root.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        // That there is root was seen when the engine was started.
        let mut command = root().unwrap_or_else(|_| Command::new("env"));
        command.args(["nsenter", "--target", &self.first_process, "--mount", "--net", "--pid", "--wd", "--"]);
        command.args(["env", "NO_PROXY=*", "no_proxy=*", "DOCKER_HOST=unix:///run/docker.sock"]);
        // Not that of `sudo`: the Python that packages were installed for is the one on ours.
        command.arg(format!("PATH={}", std::env::var("PATH").unwrap_or_default()));
        command.arg(program);
        command
    }

    /// Runs `docker` and gives what it prints.
    ///
    /// # Errors
    /// It fails; the error has what it said.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        output(self.command(self.tree.join("usr/bin/docker")).args(arguments))
    }

    /// Runs `docker compose` with the file in the workspace's root.
    ///
    /// # Errors
    /// It fails; the error has what it said.
    pub fn compose(&self, arguments: &[&str]) -> Result<String> {
        output(self.command(&self.compose).args(arguments))
    }

    /// Makes an image.
    ///
    /// # Errors
    /// A file cannot be copied, or the engine does not take the image.
    pub fn import(&self, image: &StandIn) -> Result<()> {
        let place = tempfile::tempdir().context("cannot create a temporary directory")?;
        image.fill(place.path()).with_context(|| format!("cannot make an image {}", image.name))?;
        let mut tar = Command::new("tar")
            .args(["--create", "--owner=0", "--group=0", "--directory"])
            .arg(place.path())
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .context("no tar")?;
        let mut import = self.command(self.tree.join("usr/bin/docker"));
        import.arg("import");
        for line in &image.dockerfile {
            import.args(["--change", line]);
        }
        import.args(["-", &image.name]).stdin(tar.stdout.take().context("piped")?);
        let imported = output(&mut import);
        ensure!(tar.wait()?.success() && imported.is_ok(), "no image {}: {imported:?}", image.name);
        Ok(())
    }

    /// Ends it, and says what is left of it on this machine: nothing.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn stop(mut self) -> Result<Vec<String>> {
        self.end()?;
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut left: Vec<_> =
            mounts.lines().filter(|line| line.contains(&self.group)).map(str::to_owned).collect();
        let groups = Command::new("find").args(["/sys/fs/cgroup", "-name", &self.group]).output()?;
        left.extend(String::from_utf8_lossy(&groups.stdout).lines().map(str::to_owned));
        let process = Path::new("/proc").join(&self.first_process);
        left.extend(process.exists().then(|| process.display().to_string()));
        Ok(left)
    }

    fn end(&mut self) -> Result<()> {
        drop(self.leash.take());
        self.outside.wait().context("cannot wait for the engine")?;
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// An image for a machine that cannot pull the one of that name, made of programs of this machine.
#[derive(Debug, Default)]
pub struct StandIn {
    /// As the compose file names it.
    pub name: String,
    /// Where each is here, and where it is in the image. Libraries that they need are added.
    pub programs: Vec<(PathBuf, &'static str)>,
    /// Directories with all that is in them.
    pub directories: Vec<(PathBuf, &'static str)>,
    /// Links to `/bin/busybox`.
    pub applets: Vec<&'static str>,
    /// Files with what is in them.
    pub files: Vec<(&'static str, &'static str)>,
    /// Directories that everybody may write to.
    pub shared: Vec<&'static str>,
    /// What the image says of itself, in lines of a Dockerfile.
    pub dockerfile: Vec<String>,
}

impl StandIn {
    fn fill(&self, root: &Path) -> Result<()> {
        let place = |path: &str| -> Result<PathBuf> {
            let place = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(place.parent().context("a file has a directory")?)?;
            Ok(place)
        };
        // Whoever the program runs as reads it.
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
        for (program, path) in &self.programs {
            fs::copy(program, place(path)?).with_context(|| format!("no {}", program.display()))?;
            for library in libraries_of(program, &self.directories)? {
                fs::copy(&library, place(&library)?).with_context(|| format!("no {library}"))?;
            }
        }
        for (directory, path) in &self.directories {
            let copied = Command::new("cp").arg("-RL").arg(directory).arg(place(path)?).status()?;
            ensure!(copied.success(), "no {}", directory.display());
        }
        for applet in &self.applets {
            symlink("/bin/busybox", place(applet)?)?;
        }
        for (path, text) in &self.files {
            fs::write(place(path)?, text)?;
        }
        for path in &self.shared {
            fs::create_dir_all(place(path)?)?;
            fs::set_permissions(place(path)?, fs::Permissions::from_mode(0o777))?;
        }
        Ok(())
    }
}

/// A command that another one follows, which is then run as root.
fn root() -> Result<Command> {
    let is_root = fs::metadata("/proc/self").context("no /proc")?.uid() == 0;
    if is_root {
        return Ok(Command::new("env"));
    }
    let may = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
    ensure!(
        may.is_ok_and(|status| status.success()),
        "only root may run it, or who may use sudo without a password"
    );
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "--"]);
    Ok(sudo)
}

/// The directory of libraries in the tree, which has the name of the machine's kind.
fn libraries(tree: &Path) -> Result<PathBuf> {
    let kinds = fs::read_dir(tree.join("usr/lib"))?;
    let mut kinds = kinds.filter_map(|entry| Some(entry.ok()?.path()));
    kinds.find(|kind| kind.join("xtables").is_dir()).context("the package iptables has no extensions")
}

/// The paths of the libraries that a program is linked with, but for those in the directories that come along, whose own are
/// among them; none if it is static.
fn libraries_of(program: &Path, directories: &[(PathBuf, &str)]) -> Result<Vec<String>> {
    let beside = std::env::join_paths(directories.iter().map(|(directory, _)| directory))?;
    let listed =
        Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", beside).output().context("no ldd")?;
    let listed = String::from_utf8(listed.stdout)?;
    let is_beside =
        |word: &str| directories.iter().any(|(directory, _)| Path::new(word).starts_with(directory));
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/') && !is_beside(word));
    Ok(paths.map(str::to_owned).collect())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{:?}: {}{}",
        command,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
