//! What a person does: log in, approve, deny, look at devices; by mouse, by keyboard, without
//! JavaScript; and what goes wrong.

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    driver::Setup,
    scene::{Scene, pass},
};

const APPROVE: &str = "button[value=approve]";
const DENY: &str = "button[value=deny]";
const TAB: char = '\u{e004}';
const SPACE: char = ' ';
const ENTER: char = '\u{e007}';

/// V08, V13, V17: from the link of the terminal to a token, by way of the login.
#[tokio::test]
async fn approves_a_trusted_computer() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    scene.expect("Is this you?").await?;
    let shown = scene.browser.text("main").await?;
    for text in [
        "anas-laptop",
        "Linux",
        "ZenML 0.98.0",
        "127.0.0.1",
        "on a machine that you hold",
    ] {
        ensure!(shown.contains(text), "{shown}");
    }
    ensure!(scene.polled(&asked).await? == "authorization_pending");
    scene.browser.click("label[for=trusted]").await?;
    scene.browser.follow(APPROVE).await?;
    scene.expect("Approved").await?;
    ensure!(scene.polled(&asked).await? == "720 hours");
    let cookies = scene.browser.cookies().await?;
    let cookies = cookies.as_array().cloned().unwrap_or_default();
    ensure!(
        cookies.len() == 1,
        "that of the login form is gone: {cookies:?}"
    );
    ensure!(
        cookies
            .iter()
            .all(|c| c["httpOnly"] == true && c["sameSite"] == "Lax")
    );
    Ok(())
}

#[tokio::test]
async fn approves_a_computer_without_trust() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    scene.browser.follow(APPROVE).await?;
    scene.expect("Approved").await?;
    ensure!(scene.polled(&asked).await? == "24 hours", "a day");
    // V22: the same link in another tab.
    scene.open(&asked.link).await?;
    scene.expect("You approved this already").await
}

/// D19, V16.
#[tokio::test]
async fn denies_a_computer_for_ever() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    scene.browser.follow(DENY).await?;
    scene.expect("Denied").await?;
    ensure!(scene.polled(&asked).await? == "access_denied");
    scene.open(&asked.link).await?;
    scene.expect("This code cannot be used").await
}

/// V05.
#[tokio::test]
async fn is_told_the_same_of_a_wrong_and_of_an_expired_code() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    scene.open("/devices/verify?user_code=wrong").await?;
    scene.expect("This code cannot be used").await?;
    let wrong = scene.browser.text("main").await?;
    pass(301);
    scene.open(&asked.link).await?;
    scene.expect("This code cannot be used").await?;
    ensure!(scene.browser.text("main").await? == wrong);
    // Nor can a page be used that was opened in time.
    let late = scene.device(2).await?;
    scene.open(&late.link).await?;
    pass(301);
    scene.browser.follow(APPROVE).await?;
    scene.expect("This code cannot be used").await?;
    ensure!(scene.browser.text("main").await? == wrong);
    ensure!(scene.polled(&late).await? == "expired_token");
    Ok(())
}

#[tokio::test]
async fn pastes_the_link_where_the_terminal_cut_it() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.device(1).await?;
    scene.open("/devices/verify").await?;
    scene.log_in().await?;
    scene.expect("Which login is it?").await?;
    let (start, end) = asked.link.split_at(asked.link.len() / 2);
    let pasted = format!("{}{start}  {end}", scene.url);
    scene.browser.fill("#code", &pasted).await?;
    scene.browser.follow("main button[type=submit]").await?;
    scene.expect("Is this you?").await?;
    scene.browser.follow(APPROVE).await?;
    scene.expect("Approved").await
}

#[tokio::test]
async fn locks_unlocks_and_removes_a_computer() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    scene.browser.follow(APPROVE).await?;
    scene.browser.follow(".onward a").await?;
    scene.expect("Your devices").await?;
    ensure!(
        scene
            .browser
            .text(".devices h2")
            .await?
            .contains("Waits to log in")
    );
    scene.browser.follow("button[value=lock]").await?;
    ensure!(
        scene
            .browser
            .text("[role=status]")
            .await?
            .contains("It is locked")
    );
    ensure!(scene.browser.text(".devices h2").await?.contains("Locked"));
    ensure!(scene.polled(&asked).await? == "access_denied");
    // The same client asks anew: what is locked is not approved.
    let next = scene.device(1).await?;
    scene.open(&next.link).await?;
    scene.browser.follow(APPROVE).await?;
    scene.expect("This computer is locked").await?;
    scene.open("/devices").await?;
    scene.browser.follow("button[value=unlock]").await?;
    ensure!(scene.polled(&asked).await? == "24 hours");
    scene.browser.click("summary").await?;
    scene.browser.follow("button[value=remove]").await?;
    let shown = scene.browser.text("main").await?;
    ensure!(shown.contains("No computer is logged in as you"), "{shown}");
    scene.browser.follow("nav button").await?;
    scene.expect("You are signed out").await?;
    scene.open("/devices").await?;
    scene.expect("Sign in").await
}

/// C13.
#[tokio::test]
async fn c13_signs_out_everywhere_from_a_browser() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    scene.browser.follow(APPROVE).await?;
    ensure!(scene.polled(&asked).await? == "24 hours");
    scene.open("/devices").await?;
    // It asks once more, and a click on what is hidden is none.
    let button = ".all button";
    ensure!(scene.browser.click(button).await.is_err());
    scene.browser.click(".all summary").await?;
    let shown = scene.browser.text(".all").await?;
    ensure!(shown.contains("this browser too"), "{shown}");
    scene.browser.follow(button).await?;
    scene.expect("Sign in").await?;
    let told = scene.browser.text("[role=status]").await?;
    ensure!(told.contains("You are signed out everywhere"), "{told}");
    ensure!(
        scene
            .browser
            .url()
            .await?
            .ends_with("/login?done=everywhere")
    );
    scene.log_in().await?;
    scene.expect("Your devices").await?;
    let badge = scene.browser.text(".devices h2").await?;
    ensure!(badge.contains("Signed out"), "{badge}");
    Ok(())
}

/// V07: a form that was tampered with, and one that another site's page sends by itself.
#[tokio::test]
async fn approves_nothing_by_the_form_of_another_page() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    let form = "document.querySelector('form.decide')";
    let fields = "const f = new URLSearchParams(new FormData(FORM)); f.set('decision', 'approve'); \
                  return f.toString()";
    let fields = scene.browser.script(&fields.replace("FORM", form)).await?;
    let tamper = format!("{form}.querySelector('[name=csrf]').value = 'f'.repeat(64)");
    scene.browser.script(&tamper).await?;
    scene.browser.follow(APPROVE).await?;
    scene.expect("This form cannot be used").await?;
    ensure!(scene.polled(&asked).await? == "authorization_pending");
    // The attacker knows the whole form, its token included, and still is another site.
    let evil = evil_page(&format!("{}/devices/verify", scene.url), &fields).await?;
    scene.browser.open(&evil).await?;
    scene.browser.follow("button").await?;
    ensure!(scene.browser.url().await?.starts_with(&scene.url));
    let shown = scene.heading().await?;
    // Its browser does not even send the cookie.
    ensure!(shown == "You are not signed in", "{shown}");
    ensure!(scene.polled(&asked).await? == "authorization_pending");
    Ok(())
}

/// A page at another site, that sends these fields there.
async fn evil_page(target: &str, fields: &Value) -> Result<String> {
    let fields: Vec<(String, String)> = serde_urlencoded::from_str(fields.as_str().unwrap_or(""))?;
    let inputs = fields
        .iter()
        .map(|(name, value)| format!("<input type=hidden name='{name}' value='{value}'>"));
    let body = format!(
        "<form method=post action='{target}'>{}<button>Win a prize</button></form>",
        inputs.collect::<String>()
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    // By another name of the same machine, and so another site.
    Ok(format!("http://localhost:{port}/"))
}

#[tokio::test]
async fn is_told_of_a_wrong_password_and_tries_again() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.device(1).await?;
    scene.open(&asked.link).await?;
    scene.browser.fill("#username", "ana").await?;
    scene.browser.fill("#password", "wrong").await?;
    scene.browser.follow("main button[type=submit]").await?;
    let told = scene.browser.text("[role=alert]").await?;
    ensure!(told.contains("Wrong user name or password"), "{told}");
    ensure!(scene.browser.property("#username", "value").await? == "ana");
    ensure!(scene.browser.property("#password", "value").await? == "");
    ensure!(scene.browser.focused().await? == "password");
    scene.browser.fill("#password", "password of ana").await?;
    scene.browser.follow("main button[type=submit]").await?;
    scene.expect("Is this you?").await
}

#[tokio::test]
async fn approves_by_keyboard_alone() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.device(1).await?;
    scene.open(&asked.link).await?;
    ensure!(
        scene.browser.focused().await? == "username",
        "where one begins"
    );
    let typed: Vec<char> = "ana"
        .chars()
        .chain([TAB])
        .chain("password of ana".chars())
        .collect();
    scene.browser.press(&typed).await?;
    scene.browser.press(&[ENTER]).await?;
    scene.expect("Is this you?").await?;
    let mut order = Vec::new();
    for _ in 0..6 {
        scene.browser.press(&[TAB]).await?;
        order.push(scene.browser.focused().await?);
    }
    let wanted = [
        "Skip to content",
        "Your devices",
        "Sign out ana",
        "trusted",
        "deny",
        "approve",
    ];
    ensure!(order == wanted, "{order:?}");
    let outline = "return getComputedStyle(document.activeElement).outlineStyle";
    ensure!(
        scene.browser.script(outline).await? == "solid",
        "the focus is seen"
    );
    scene.browser.press(&[SPACE]).await?;
    scene.expect("Approved").await?;
    ensure!(scene.polled(&asked).await? == "24 hours");
    Ok(())
}

/// Enter in a form does what its first button does, and that approves nobody.
#[tokio::test]
async fn approves_nothing_by_accident() -> Result<()> {
    let scene = Scene::new().await?;
    let asked = scene.asked().await?;
    scene.browser.click("label[for=trusted]").await?;
    scene.browser.press(&[ENTER]).await?;
    scene.expect("Denied").await?;
    ensure!(scene.polled(&asked).await? == "access_denied");
    Ok(())
}

#[tokio::test]
async fn needs_no_script() -> Result<()> {
    let scene = Scene::with(Setup {
        no_script: true,
        ..Setup::default()
    })
    .await?;
    let page =
        "data:text/html,<h1>off</h1><script>document.querySelector('h1').textContent='on'</script>";
    scene.browser.open(page).await?;
    scene.expect("off").await?;
    let asked = scene.asked().await?;
    scene.browser.follow(APPROVE).await?;
    scene.expect("Approved").await?;
    ensure!(scene.polled(&asked).await? == "24 hours");
    scene.browser.follow(".onward a").await?;
    scene.browser.click("summary").await?;
    scene.browser.follow("button[value=remove]").await?;
    let shown = scene.browser.text("main").await?;
    ensure!(shown.contains("It is removed"), "{shown}");
    Ok(())
}
